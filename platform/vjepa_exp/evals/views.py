"""Several clips of one video: segments along time are seen together, spatial views are classified apart and averaged.

Legend: B videos, V = segments x views (segment-major), R spatial views, S segments, N tokens of a clip, D width,
C classes.
"""

from einops import rearrange
from torch import Tensor


def join_segments(tokens_BVND: Tensor, views: int) -> Tensor:
    """Tokens of all segments of a spatial view, one after the other: [B, V, N, D] -> [B, R, S*N, D].

    The probe reads the segments of a video in one pass (method facts section 8, `attend_across_segments`).
    """
    return rearrange(tokens_BVND, "b (s r) n d -> b r (s n) d", r=views)


def average_views(logits_BRC: Tensor) -> Tensor:
    """Class probabilities of the videos [B, C]: the mean of the views' softmax (paper section 4; method facts 8)."""
    return logits_BRC.float().softmax(dim=-1).mean(dim=1)
