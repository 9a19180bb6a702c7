"""What a training step of the attentive probe costs over the same step with keys and values of every token.

    python benchmarks/attentive_probe.py                  # features of a small encoder, and of ViT-L/16 on 16 frames
    python benchmarks/attentive_probe.py --device cuda --precision bf16

The peer is the block as the released code computes it (key and value projections of all tokens, then attention),
written with torch's own functions on the same weights. Forward, loss and backward pass; the two take turns, the time
is the median of all repeats. Also what a step allocates at most (CUDA only), and how far the two differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vjepa_exp.train.precision import autocast
from vjepa_models.probes import AttentiveProbe, CrossAttention

SIZES = {"small": (64, 144, 96, 3, 8), "ViT-L/16": (16, 1568, 1024, 16, 400)}
"""Videos of a batch, tokens of a video, width, heads, classes."""

Attention = Callable[[CrossAttention, Tensor, Tensor], Tensor]


def projected(block: CrossAttention, queries_BQD: Tensor, tokens_BND: Tensor) -> Tensor:
    """The peer."""
    q_BHQC = rearrange(block.q(queries_BQD), "b q (h c) -> b h q c", h=block.num_heads)
    k_BHNC, v_BHNC = rearrange(block.kv(tokens_BND), "b n (two h c) -> two b h n c", two=2, h=block.num_heads)
    return rearrange(F.scaled_dot_product_attention(q_BHQC, k_BHNC, v_BHNC), "b h q c -> b q (h c)")


def step(
    probe: AttentiveProbe, tokens_BND: Tensor, labels_B: Tensor, cast: Callable[[], AbstractContextManager[Any]]
) -> tuple[float, int, Tensor]:
    """Seconds, bytes allocated at most beyond what there was (0 on a CPU), logits."""
    cuda = tokens_BND.is_cuda
    probe.zero_grad(set_to_none=True)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    begun = time.perf_counter()
    with cast():
        logits_BC = probe(tokens_BND)
        loss = F.cross_entropy(logits_BC.float(), labels_B)
    loss.backward()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    return seconds, torch.cuda.max_memory_allocated() - before if cuda else 0, logits_BC.detach().float()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    ways: dict[str, Attention] = {"ours": CrossAttention.forward, "projected": projected}
    for name, (batch, count, width, heads, classes) in SIZES.items():
        probe = AttentiveProbe(width, heads, classes).to(device)
        tokens_BND, labels_B = torch.randn(batch, count, width), torch.randint(classes, (batch,))
        data = tokens_BND.to(device), labels_B.to(device)
        took: dict[str, list[tuple[float, int, Tensor]]] = {way: [] for way in ways}
        for repeat in range(args.repeats + 1):
            for way, forward in ways.items():
                CrossAttention.forward = forward  # type: ignore[method-assign]
                measured = step(probe, *data, autocast(args.precision, device))
                if repeat:  # the first one warms up
                    took[way].append(measured)
        seconds = {way: median(one[0] for one in found) for way, found in took.items()}
        memory = {way: max(one[1] for one in found) / 2**20 for way, found in took.items()}
        apart = (took["ours"][0][2] - took["projected"][0][2]).abs().max().item()
        print(
            f"{name}: {batch} videos of {count} tokens of {width}: ours {seconds['ours'] * 1e3:.1f} ms, projected "
            f"{seconds['projected'] * 1e3:.1f} ms, ratio {seconds['projected'] / seconds['ours']:.1f}; logits apart "
            f"by at most {apart:.1e}"
            + (f"; {memory['ours']:.0f} and {memory['projected']:.0f} MiB" if device.type == "cuda" else "")
        )


if __name__ == "__main__":
    main()
