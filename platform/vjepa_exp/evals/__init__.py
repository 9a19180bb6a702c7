"""Views, metrics and the coverage that every score carries."""
