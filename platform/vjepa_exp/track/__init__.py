"""MLflow: one run tree per study."""
