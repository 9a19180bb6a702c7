"""Checkpoint layouts of released models, one module per family."""
