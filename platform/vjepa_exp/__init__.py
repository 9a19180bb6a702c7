"""vjepa-exp: experiments on self-supervised video models that a stranger can run, trust and repeat."""
