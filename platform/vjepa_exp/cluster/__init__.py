"""Cluster files: a cluster spec as Ray's autoscaler and Kubernetes take it. Pure; imports neither ray nor a cloud."""
