"""Manifests, decoding, clip sampling, the global order, augmentation and the demo data set."""
