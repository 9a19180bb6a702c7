"""Typed specs: what a YAML file may say, how overlays combine, and errors that name file and line."""
