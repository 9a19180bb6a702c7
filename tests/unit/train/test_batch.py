"""The way of clips onto the device: erasing, and still images of which one frame travels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vjepa_exp.spec.stages import ProbeRecipe
from vjepa_exp.train.batch import MEAN, STD, Batch, ClipBatch
from vjepa_exp.train.encoders import frozen_encoder
from vjepa_exp.train.features import FeatureExtractor
from vjepa_exp.train.world import CPU, World


def erased(clips: Any, rows: range = range(6), views: int = 2) -> Batch:
    """Rows of which every other clip has a box, each another one."""
    batch = dict(clips(views=views).load(rows))
    batch["erased"] = np.zeros((len(rows), views, 4), dtype=np.int64)
    for i, row in enumerate(rows):
        batch["erased"][i, row % views] = (row % 4, 5, 20, 11)
    return batch


def on_device(batch: Batch, seed: int = 7, num_frames: int = 4) -> torch.Tensor:
    return ClipBatch.of(batch).on_device(CPU, num_frames, seed)


def test_frames_are_normalised_and_only_boxes_are_replaced(clips: Any) -> None:
    batch = erased(clips)
    found = on_device(batch)
    assert found.shape == (12, 3, 4, 32, 32)
    plain = on_device({**batch, "erased": np.zeros((6, 2, 4), dtype=np.int64)})
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
    frames = torch.tensor(batch["clips"]).flatten(0, 1).permute(0, 4, 1, 2, 3).float()
    torch.testing.assert_close(plain, (frames - mean) / std)
    for i, box in enumerate(batch["erased"].reshape(-1, 4).tolist()):
        top, left, height, width = box
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        same = found[i] == plain[i]
        assert same[:, :, ~inside].all()
        assert not same[:, :, inside].any()


def test_noise_is_standard_normal_and_new_in_every_frame_and_clip(clips: Any) -> None:
    batch = erased(clips, range(40))
    parts = [on_device(batch)[i, ..., 5:20, 5:16] for i in np.flatnonzero(batch["erased"][..., 2].ravel())]
    noise_BCTHW = torch.stack(parts)
    assert noise_BCTHW.mean().item() == pytest.approx(0, abs=0.02)
    assert noise_BCTHW.std().item() == pytest.approx(1, abs=0.02)
    assert (noise_BCTHW.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.01)
    for first, second in ((noise_BCTHW[:, :, 0], noise_BCTHW[:, :, 1]), (noise_BCTHW[0::2], noise_BCTHW[1::2])):
        assert abs((first * second).mean().item()) < 0.03


def test_clips_of_one_video_have_noise_of_their_own(clips: Any) -> None:
    batch = erased(clips, range(1))
    batch["erased"][:] = (0, 0, 32, 32)
    first, second = on_device(batch)
    assert abs((first * second).mean().item()) < 0.05


def test_noise_is_the_same_bits_however_rows_are_split(clips: Any) -> None:
    whole = on_device(erased(clips, range(12)))
    workers = [erased(clips, World(rank, 3).rows(12)) for rank in range(3)]
    assert torch.equal(torch.cat([on_device(batch) for batch in workers]), whole)
    micro = ClipBatch.of(erased(clips, range(12)))
    parts = [micro.part(start, start + 5).on_device(CPU, 4, 7) for start in range(0, 24, 5)]
    assert torch.equal(torch.cat(parts), whole)
    readable = np.arange(12) % 3 != 0
    rest = ClipBatch.of(erased(clips, range(12)), readable).on_device(CPU, 4, 7)
    assert torch.equal(rest, whole[np.repeat(readable, 2)])
    assert not torch.equal(on_device(erased(clips, range(12)), seed=8), whole)


def test_a_frame_repeated_on_the_device_is_the_repeated_frame_bit_for_bit(
    probe_recipe: ProbeRecipe, clips: Any
) -> None:
    batch = dict(erased(clips, range(4)))
    one = {**batch, "clips": batch["clips"][:, :, :1]}
    four = {**batch, "clips": np.repeat(batch["clips"][:, :, :1], 4, axis=2)}
    unerased = {"erased": np.zeros((4, 2, 4), dtype=np.int64)}
    assert torch.equal(on_device({**one, **unerased}), on_device({**four, **unerased}))
    still = on_device(one)
    assert torch.equal(still, still[:, :, :1].expand_as(still))  # an erased image has one noise
    encoder = frozen_encoder(probe_recipe, None)
    extract = FeatureExtractor(encoder, probe_recipe, World(), views=2, micro_batch=3)
    tokens = [extract({**batch, **unerased}).tokens for batch in (one, four)]
    assert torch.equal(*tokens)
    assert tokens[0].shape == (4, 2, 2 * 4 * 4, 24)
