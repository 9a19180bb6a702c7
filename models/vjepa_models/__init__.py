"""V-JEPA as pure functions of configuration and tensors: networks, masks, objectives, checkpoint layouts.

Imports torch, einops and numpy only. `archs`, `keyed_rng` and `masks` do not import torch, so plans and data loaders
stay light. This package knows nothing about devices, precision, distribution, logging or files of a run.
"""
