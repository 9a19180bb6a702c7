"""What a sweep of probes costs over one probe: all of them share each pass of the frozen encoder.

    python benchmarks/probe_sweep.py                          # 16 attentive probes on ViT-L/16, clips of 8 x 112 x 112
    python benchmarks/probe_sweep.py --arch vit_base --probes 8

The project's own `train_probes`, with augmented clips, so that every step encodes its batch. Clips are made up:
decoding, which is shared too, would only lower the ratio. One and many take turns; the time of a step is the best of
all repeats, counted from the second step on. Goal: 16 probes cost at most 1.5 times one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch

from vjepa_exp.spec.augment import CropFlip
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.evaluate import AttentiveProbe, ProbeOptimSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.batch import Batch
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.loop import Hook, StepInfo
from vjepa_exp.train.probe import train_probes
from vjepa_exp.train.probe_data import Split
from vjepa_exp.train.probe_step import ProbeState
from vjepa_exp.train.world import World
from vjepa_models.encoder import VideoEncoder

CLASSES = 400


def recipes(arch: str, clip: ClipSpec, batch_size: int, steps: int, count: int) -> list[ProbeRecipe]:
    """Probes with `count` learning rates."""
    base = AttentiveProbe(
        kind="attentive_probe",
        dataset="made_up",
        clip=clip,
        augment=CropFlip(),
        precision="fp32",
        optim=ProbeOptimSpec(batch_size=batch_size, epochs=steps),
    )
    rates = np.geomspace(1e-4, 1e-2, count)
    probes = [base.model_copy(update={"optim": base.optim.model_copy(update={"lr": float(rate)})}) for rate in rates]
    model = ModelSpec.model_validate({"arch": arch})
    return [ProbeRecipe(seed=0, model=model, encoder="random_init", probe=probe, digests={}) for probe in probes]


def batches(clip: ClipSpec, size: int, first: int, last: int) -> Iterator[Batch]:
    """Clips of noise."""
    shape = (size, 1, clip.num_frames, clip.resolution, clip.resolution, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for start in range(first, last, size):
        position = np.arange(start, start + size)
        nothing = np.full(size, "")
        yield {
            "position": position,
            "clips": frames,
            "erased": np.zeros((size, 1, 4), np.int64),
            "label": position % CLASSES,
            "error": nothing,
            "path": nothing,
        }


def step_seconds(sweep: list[ProbeRecipe], encoder: VideoEncoder) -> float:
    """The fastest step of a run, all probes' parts of it."""
    probe, ends = sweep[0].probe, list[float]()
    size, steps = probe.optim.batch_size, probe.optim.epochs

    def note(info: StepInfo[ProbeState]) -> None:
        if info.step < info.last_step:  # the last step is followed by the test
            ends.append(time.perf_counter())

    hooks: list[list[Hook[ProbeState]]] = [[] for _ in sweep[1:]] + [[note]]
    train, test = batches(probe.clip, size, 0, size * steps), batches(probe.clip, size, 0, size)
    train_probes(sweep, World(), encoder, Split(train, size), Split(test, size), CLASSES, micro_batch=size, hooks=hooks)
    return float(np.diff(ends).min())


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_large")
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clip = ClipSpec(num_frames=8, resolution=112)
    sweep = recipes(options.arch, clip, options.batch_size, options.steps, options.probes)
    encoder = frozen_encoder(sweep[0], None)
    one = many = float("inf")
    for _ in range(options.repeats):
        one = min(one, step_seconds(sweep[:1], encoder))
        many = min(many, step_seconds(sweep, encoder))
    print(f"encoder {options.arch}, clips of 8 x 112 x 112, batches of {options.batch_size}, {options.threads} threads")
    print(f"1 probe: {one:.2f} s a step; {options.probes} probes: {many:.2f} s a step")
    print(f"ratio {many / one:.2f} (goal for 16: at most 1.5; each with its own pass: {options.probes}.00)")


if __name__ == "__main__":
    main()
