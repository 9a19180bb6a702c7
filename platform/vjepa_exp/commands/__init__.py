"""What the subcommands of `vjepa-exp` do; `vjepa_exp.cli` parses and calls."""
