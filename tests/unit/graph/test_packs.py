"""Which probes share a pass of their encoder."""

from __future__ import annotations

import pytest

from vjepa_exp.graph import packs
from vjepa_exp.graph.packs import passengers, share_passes
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.data import ClipSpec
from vjepa_exp.spec.evaluate import AttentiveProbe, LinearProbe, ProbeOptimSpec
from vjepa_exp.spec.model import ModelSpec
from vjepa_exp.spec.stages import DataRecipe, ProbeRecipe

CLIP = ClipSpec(num_frames=4, resolution=32)
DATA = Stage("data", "tiny", DataRecipe(family="tiny", digest="1"))


def probe(
    name: str, *, seed: int = 0, inputs: tuple[Stage, ...] = (), linear: bool = False, **changes: object
) -> Stage:
    settings = {"dataset": "a", "clip": CLIP, "optim": ProbeOptimSpec(), **changes}
    spec = (
        LinearProbe.model_validate({"kind": "linear_probe", **settings})
        if linear
        else AttentiveProbe.model_validate({"kind": "attentive_probe", **settings})
    )
    recipe = ProbeRecipe(seed=seed, model=ModelSpec(), encoder="random_init", probe=spec, digests={})
    return Stage("probe", name, recipe, inputs)


def names(stages: list[Stage], at_most: int | None = None) -> list[str]:
    return ["".join(stage.name for stage in pack) for pack in share_passes(stages, at_most)]


def test_what_a_probe_has_for_itself_does_not_part_it_from_the_others() -> None:
    stages = [
        probe("a"),
        probe("b", optim=ProbeOptimSpec(lr=0.1, final_lr=0.01, warmup_epochs=2, clip_grad=None)),
        probe("c", optim=ProbeOptimSpec(weight_decay=0.3, final_weight_decay=0.2)),
        probe("d", linear=True),
        probe("e", depth=2),
    ]
    assert names(stages) == ["abcde"]


@pytest.mark.parametrize(
    "other",
    [
        probe("b", seed=1),
        probe("b", inputs=(DATA,)),
        probe("b", dataset="b"),
        probe("b", clips=2),
        probe("b", views=3),
        probe("b", precision="fp32"),
        probe("b", label_fraction=0.5),
        probe("b", augment={"kind": "none"}),
        probe("b", optim=ProbeOptimSpec(batch_size=8)),
        probe("b", optim=ProbeOptimSpec(epochs=3)),
    ],
)
def test_other_tokens_batches_or_steps_need_a_pass_of_their_own(other: Stage) -> None:
    assert names([probe("a"), other]) == ["a", "b"]


def test_what_is_no_probe_is_alone_and_the_order_stays() -> None:
    assert names([probe("a"), DATA, probe("b", seed=1), probe("c")]) == ["ac", "tiny", "b"]
    assert passengers([probe("a"), DATA, probe("c", depth=2)]) == {probe("c", depth=2).fingerprint}


def test_a_pass_takes_no_more_than_asked_or_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [probe(name, optim=ProbeOptimSpec(lr=rate)) for rate, name in enumerate("abcde", 1)]
    assert names(stages, 2) == ["ab", "cd", "e"]
    assert names(stages, 1) == list("abcde")
    assert names(stages) == ["abcde"]
    monkeypatch.setattr(packs, "PACK_BYTES", 2**30)  # ViT-L: 12.6 M weights and a classifier of 10.2 M, 16 bytes each
    assert names(stages) == ["ab", "cd", "e"]
    monkeypatch.setattr(packs, "PACK_BYTES", 1)
    assert names(stages) == list("abcde")
