"""The factors of the paper: each module maps a recipe to the recipes of its levels."""
