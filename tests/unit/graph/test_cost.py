from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vjepa_ablations.masking import FIGURE8
from vjepa_exp.graph.cost import StageCost, decode_cores, device_of, hours, stage_cost
from vjepa_exp.graph.machine import Gpu, Machine
from vjepa_exp.graph.network import (
    encoder_flops,
    encoder_parameters,
    predictor_flops,
    predictor_parameters,
    probe_flops,
    probe_parameters,
    recomputed_flops,
    saved_activations,
)
from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.graph.tokens import MaskTokens, mask_draws
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.errors import UserError
from vjepa_exp.spec.evaluate import AttentiveProbe as AttentiveProbeSpec
from vjepa_exp.spec.evaluate import ClipSpec
from vjepa_exp.spec.execution import ExecutionSpec
from vjepa_exp.spec.experiment import Recipe
from vjepa_exp.spec.load import ResolvedExperiment
from vjepa_exp.spec.masks import PAPER_MASKS, MaskSpec, MultiBlockMask, RandomTubeMask
from vjepa_exp.spec.model import ModelSpec, PredictorSpec
from vjepa_exp.train.mask_groups import MaskPair
from vjepa_exp.train.networks import encoder_config, mask_sampler, predictor_config
from vjepa_exp.train.parallel import recompute_blocks
from vjepa_exp.train.pretrain_step import PretrainModel
from vjepa_models.encoder import EncoderConfig, VideoEncoder
from vjepa_models.masks import MultiBlock, mask_statistics
from vjepa_models.predictor import Predictor, PredictorConfig
from vjepa_models.probes import AttentiveProbe

Load = Callable[..., ResolvedExperiment]
LARGE = ModelSpec()
SMALL = ModelSpec(
    arch="custom", embed_dim=96, depth=3, num_heads=3, mlp_ratio=4.0, predictor=PredictorSpec(depth=2, embed_dim=48)
)  # fmt: skip
PROBE = AttentiveProbeSpec(kind="attentive_probe", dataset="k400", clip=ClipSpec(), depth=2)
CPU = Machine("some CPU", 4, 16 * 2**30)


def counted_flops(forward: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        forward()  # the counter does not see the fused attention of CPUs
    return counter.get_total_flops()


def test_parameters_of_the_released_models() -> None:
    """Method fact 13.4 and section 2.4."""
    assert encoder_parameters(LARGE) == 303_885_312
    assert predictor_parameters(LARGE, 2, 1024) == 22_082_944
    assert probe_parameters(LARGE, PROBE.model_copy(update={"depth": 1}), 400) == 13_007_248


def test_counts_agree_with_the_networks() -> None:
    size = SMALL.encoder
    config = EncoderConfig(size.embed_dim, size.depth, size.num_heads, size.mlp_ratio, num_frames=8, resolution=64)
    encoder = VideoEncoder(config)
    clip, index = torch.zeros(1, 3, 8, 64, 64), torch.arange(20)[None]
    assert counted_flops(lambda: encoder(clip, index)) == pytest.approx(encoder_flops(SMALL, 20), rel=0.02)
    predictor = Predictor(PredictorConfig(96, 96, config.grid, embed_dim=48, depth=2, num_heads=3))
    context = torch.zeros(1, 20, 96)
    counted = counted_flops(lambda: predictor(context, index, torch.arange(20, 50)[None], 0))
    assert counted == pytest.approx(predictor_flops(SMALL, 20, 30, 96), rel=0.02)
    probe = AttentiveProbe(96, 3, 10, depth=2)
    assert counted_flops(lambda: probe(context)) == pytest.approx(probe_flops(SMALL, PROBE, 20, 10), rel=0.02)
    assert sum(p.numel() for p in probe.parameters()) == probe_parameters(SMALL, PROBE, 10)


def test_blocks_computed_again_cost_what_is_counted() -> None:
    size = SMALL.encoder
    config = EncoderConfig(size.embed_dim, size.depth, size.num_heads, size.mlp_ratio, num_frames=8, resolution=64)
    encoder, clip, index = VideoEncoder(config), torch.zeros(1, 3, 8, 64, 64), torch.arange(20)[None]
    plain = counted_flops(lambda: encoder(clip, index).sum().backward())
    recompute_blocks(encoder)
    again = counted_flops(lambda: encoder(clip, index).sum().backward())
    expected = size.depth * recomputed_flops(20, size.embed_dim, size.mlp_dim)
    assert again - plain == pytest.approx(expected, rel=0.02)


def test_activations_agree_with_what_autograd_keeps() -> None:
    def kept(depth: int) -> int:
        encoder = VideoEncoder(EncoderConfig(96, depth, 3, 4.0, num_frames=8, resolution=64))
        weights = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = encoder(torch.zeros(1, 3, 8, 64, 64))
        assert output.requires_grad
        return sum(size for storage, size in storages.items() if storage not in weights)

    assert kept(3) - kept(1) == pytest.approx(saved_activations(64, 96, 384, 2, 4), rel=0.05)


@pytest.mark.parametrize(("resolution", "group_size"), [(224, 24), (224, 8), (384, 10)])
@pytest.mark.parametrize("mask", [*PAPER_MASKS, PAPER_MASKS[0].model_copy(update={"max_temporal_keep": 0.375})])
def test_estimated_mask_lengths_are_those_of_the_sampler(
    mask: MultiBlockMask, resolution: int, group_size: int
) -> None:
    grid = (8, resolution // 16, resolution // 16)
    sampler = MultiBlock(mask.num_blocks, mask.spatial_scale, max_temporal_keep=mask.max_temporal_keep)
    sampled = mask_statistics(sampler, grid, group_size, num_groups=200)
    estimate = MaskTokens.mean(mask_draws(mask, grid, group_size))
    num_tokens = grid[0] * grid[1] * grid[2]
    assert estimate.context / num_tokens == pytest.approx(sampled.context, abs=0.01)
    assert estimate.target / num_tokens == pytest.approx(sampled.target, abs=0.01)


def test_random_tubes_keep_whole_tubes() -> None:
    assert set(mask_draws(RandomTubeMask(kind="random_tube", ratio=0.9), (8, 14, 14), 24)) == {(152, 1416)}


def test_max_keep_bounds_the_context() -> None:
    bounded = PAPER_MASKS[0].model_copy(update={"max_keep": 30})
    assert {draw.context for draw in mask_draws(bounded, (8, 14, 14), 24)} == {30}


def test_masks_that_never_leave_a_context_are_refused_instead_of_drawn_for_ever() -> None:
    crowded = MultiBlockMask(kind="multi_block", num_blocks=200, spatial_scale=(0.8, 0.8))
    with pytest.raises(UserError, match=r"200 blocks of up to 0\.8 of a frame cover the whole clip of 8x14x14 tokens"):
        mask_draws(crowded, (8, 14, 14), 24)


def cost_of(plan: Plan, kind: str, registry: Registry, execution: ExecutionSpec | None = None) -> StageCost:
    stage = next(stage for stage in plan.stages if stage.kind == kind)
    cost = stage_cost(stage, execution or plan.experiment.experiment.execution, registry)
    assert cost is not None
    return cost


def test_a_pretraining_costs_its_clips(load: Load, registry: Registry) -> None:
    cost = cost_of(build_plan(load(), registry), "pretrain", registry)
    assert cost.clips == 80
    assert cost.total_flops == pytest.approx(80 * (cost.forward_flops + cost.backward_flops))
    assert cost.decoded_bytes == 80 * 3 * 8 * 64 * 64
    assert cost.tokens_per_clip == 4 * 4 * 4


def test_pixels_need_no_target_encoder(load: Load, registry: Registry) -> None:
    features = cost_of(build_plan(load(), registry), "pretrain", registry)
    resolved = load("", "recipe.pretrain.objective={kind: pixels}")
    pixels = cost_of(build_plan(resolved, registry), "pretrain", registry)
    target = encoder_flops(resolved.experiment.recipe.model, 64)
    assert features.forward_flops - pixels.forward_flops == pytest.approx(target, rel=0.35)
    assert pixels.memory_bytes < features.memory_bytes


def test_memory_grows_with_the_micro_batch_and_shrinks_with_workers(load: Load, registry: Registry) -> None:
    plan = build_plan(load(), registry)
    one, two, four = (cost_of(plan, "pretrain", registry, ExecutionSpec(micro_batch=n)).memory_bytes for n in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-6)
    shared = cost_of(plan, "pretrain", registry, ExecutionSpec(micro_batch=1, workers=4)).memory_bytes
    others_clips, buckets = 6 * 3 * 8 * 64 * 64 * 4, 4 * cost_of(plan, "pretrain", registry).parameters
    assert one - shared == pytest.approx(others_clips - buckets, rel=1e-6)


def test_slices_and_blocks_computed_again_take_less_memory_and_the_latter_more_work(
    load: Load, registry: Registry
) -> None:
    plan = build_plan(load(), registry)
    whole, slices, again = (
        cost_of(plan, "pretrain", registry, ExecutionSpec(micro_batch=4, workers=2, **options))
        for options in ({}, {"parallel": "fsdp"}, {"activation_checkpointing": True})
    )
    assert slices.memory_bytes < whole.memory_bytes
    assert slices.total_flops == whole.total_flops
    assert again.memory_bytes < whole.memory_bytes
    assert whole.total_flops is not None
    assert again.total_flops is not None
    assert 1.1 * whole.total_flops < again.total_flops < 1.34 * whole.total_flops


def test_fixed_clips_are_encoded_once_and_augmented_ones_in_every_epoch(load: Load, registry: Registry) -> None:
    augmented = cost_of(build_plan(load(), registry), "probe", registry)
    fixed = cost_of(build_plan(load("", "recipe.evaluate.looks.augment={kind: none}"), registry), "probe", registry)
    assert augmented.clips is not None
    assert fixed.clips is not None
    assert augmented.clips > 10 * fixed.clips
    assert fixed.forward_flops == augmented.forward_flops


@pytest.mark.parametrize(("augment", "passes"), [("none", 0), ("crop_flip", 2)])
def test_a_sweep_costs_its_rounds(load: Load, registry: Registry, augment: str, passes: int) -> None:
    sets = [f"recipe.evaluate.looks.augment={{kind: {augment}}}"]
    space = "{lr: {kind: loguniform, low: 1e-4, high: 1e-2}}"
    sweep = f"recipe.evaluate.looks.sweep={{searcher: optuna, num_samples: 6, round: 3, holdout: 0.25, space: {space}}}"
    plain = cost_of(build_plan(load("", *sets), registry), "probe", registry)
    swept = cost_of(build_plan(load("", *sets, sweep), registry), "probe", registry)
    assert plain.clips is not None
    assert swept.clips is not None
    assert plain.total_flops is not None
    assert swept.total_flops is not None
    assert (swept.clips > plain.clips) == bool(passes)
    assert swept.total_flops > plain.total_flops
    assert swept.memory_bytes > plain.memory_bytes  # three probes at a time


@pytest.mark.parametrize(("dataset", "frames"), [("tiny_appearance", 8), ("tiny_stills", 1), ("k400", 8), ("in1k", 1)])
def test_of_an_image_one_frame_travels(load: Load, registry: Registry, dataset: str, frames: int) -> None:
    cost = cost_of(build_plan(load("", f"recipe.evaluate.looks.dataset={dataset}"), registry), "probe", registry)
    assert cost.clips is not None
    assert cost.decoded_bytes == cost.clips * frames * 3 * 64 * 64


def test_hours_are_a_range_and_unknown_where_a_size_is(load: Load, registry: Registry) -> None:
    device, count = device_of(ExecutionSpec(device="cpu"), CPU)
    assert count == 4
    known = cost_of(build_plan(load(), registry), "pretrain", registry)
    found = hours([known, None], device, count)
    assert found is not None
    assert 0 < found[0] < found[1]
    unknown = cost_of(build_plan(load("", "recipe.evaluate.looks.dataset=mine"), registry), "probe", registry)
    assert unknown.total_flops is None
    assert hours([known, unknown], device, count) is None


def test_a_named_gpu_wins_over_those_that_are_here() -> None:
    assert device_of(ExecutionSpec(gpu="H100"), CPU)[0].name == "H100"
    device, count = device_of(ExecutionSpec(device="cuda", gpu="H200", workers=4), CPU)
    assert (device.name, count, device.memory_bytes) == ("H200", 4, 141 * 10**9)


def test_cores_feed_the_devices(load: Load, registry: Registry) -> None:
    cost = cost_of(build_plan(load(), registry), "pretrain", registry)
    one, two = (decode_cores(cost, *device_of(ExecutionSpec(device="cuda", workers=n), CPU)) for n in (1, 2))
    assert one is not None
    assert two == pytest.approx([2 * cores for cores in one])
    device = device_of(ExecutionSpec(device="cuda"), CPU)[0]
    clips_per_s = device.low / (cost.forward_flops + cost.backward_flops)
    assert one[0] == pytest.approx(clips_per_s / 25)


def test_images_need_fewer_cores_than_videos(load: Load, registry: Registry) -> None:
    def cores(dataset: str) -> float:
        plan = build_plan(load("", f"recipe.evaluate.looks.dataset={dataset}"), registry)
        found = decode_cores(cost_of(plan, "probe", registry), *device_of(ExecutionSpec(device="cuda"), CPU))
        assert found is not None
        return found[0]

    assert cores("in1k") < cores("k400") / 3


def test_hours_are_stated_for_the_gpus_that_are_here_or_else_for_a100s() -> None:
    cuda = ExecutionSpec(device="cuda", workers=8)
    assert device_of(cuda, CPU)[0].name == "A100 80GB"
    here = Machine("some CPU", 4, 16 * 2**30, (Gpu("NVIDIA H100 80GB HBM3", 79.6),))
    device, count = device_of(cuda, here)
    assert (device.name, count) == ("H100", 8)


@dataclass(frozen=True)
class Configuration:
    """A pretraining recipe to count."""

    arch: str
    resolution: int
    group_size: int = 24
    objective: str = "features"
    masks: tuple[MaskSpec, ...] = PAPER_MASKS


CAUSAL = tuple(mask.model_copy(update={"max_temporal_keep": 0.375}) for mask in PAPER_MASKS)
CONFIGURATIONS = [
    Configuration("vit_large", 224),
    Configuration("vit_huge", 224),
    Configuration("vit_huge", 384, group_size=10),
    Configuration("vit_large", 224, objective="pixels"),
    Configuration("vit_large", 224, masks=CAUSAL),
    Configuration("vit_large", 224, masks=(RandomTubeMask(kind="random_tube", ratio=0.9),)),
    Configuration("vit_base", 224, masks=(FIGURE8["M14"])),
    Configuration("vit_small", 112),
]


@pytest.mark.parametrize("c", CONFIGURATIONS, ids=lambda c: f"{c.arch}-{c.resolution}-{c.objective}-{c.masks[0].kind}")
def test_flops_of_a_step_are_those_that_torch_counts(c: Configuration, load: Load, registry: Registry) -> None:
    """Forward and backward of the real networks on the meta device, with token counts of the real sampler."""
    resolved = load(
        "",
        f"recipe.model={{arch: {c.arch}}}",
        f"recipe.pretrain.data.clip={{num_frames: 16, resolution: {c.resolution}}}",
        f"recipe.pretrain.objective={{kind: {c.objective}}}",
        f"recipe.pretrain.mask_group_size={c.group_size}",
        f"recipe.pretrain.optim.batch_size={c.group_size}",
        f"recipe.pretrain.masks={json.dumps([mask.to_json() for mask in c.masks])}",
    )
    estimate = cost_of(build_plan(resolved, registry), "pretrain", registry)
    forward, total = counted_step(resolved.experiment.recipe)
    assert estimate.forward_flops == pytest.approx(forward, rel=0.1)
    assert estimate.forward_flops + estimate.backward_flops == pytest.approx(total, rel=0.1)


def counted_step(recipe: Recipe) -> tuple[float, float]:
    """FLOPs of one clip: of the forward pass, and of both passes."""
    spec = recipe.pretrain
    encoder = encoder_config(recipe.model, spec.data.clip)
    predictor = predictor_config(recipe.model, encoder, spec.objective, len(spec.masks))
    model = PretrainModel(VideoEncoder(encoder, 0, "meta"), Predictor(predictor, 0, "meta"), spec.objective)
    target = VideoEncoder(encoder, 0, "meta")
    clip = torch.zeros(1, 3, spec.data.clip.num_frames, *[spec.data.clip.resolution] * 2, device="meta")
    pairs = []
    for mask in spec.masks:
        share = mask_statistics(mask_sampler(mask), encoder.grid, spec.mask_group_size, num_groups=25)
        lengths = (round(encoder.num_tokens * part) for part in (share.context, share.target))
        pairs.append(MaskPair(*(torch.zeros(1, n, dtype=torch.int64, device="meta") for n in lengths)))

    def forward() -> torch.Tensor:
        if spec.objective.kind == "pixels":
            targets = torch.zeros(1, encoder.num_tokens, encoder.tubelet_dim, device="meta")
        else:
            with torch.no_grad():
                targets = target(clip)
        losses, _ = model(clip, targets, [tuple(pairs)])
        return losses.mean()

    return counted_flops(forward), counted_flops(lambda: forward().backward())
