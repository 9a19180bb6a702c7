"""Stages, fingerprints, the plan with its cost, and the artifact store."""
