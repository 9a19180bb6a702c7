"""Training: networks from specs, steps, schedules, optimisers, and the check against golden numbers."""
