"""The whole paper as one plan: what it holds is counted from the paper's tables, not from our files."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from vjepa_exp.graph.cost import stage_cost
from vjepa_exp.graph.demand import Demand, demand
from vjepa_exp.graph.joint import JointPlan
from vjepa_exp.graph.outlook import Limit, outlooks
from vjepa_exp.graph.plan import build_plan
from vjepa_exp.graph.schedule import Order
from vjepa_exp.graph.stage import Stage
from vjepa_exp.spec.cluster import read_cluster
from vjepa_exp.spec.collection import collected
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.document import read_yaml
from vjepa_exp.spec.load import read_experiment, resolve
from vjepa_exp.spec.stages import PretrainRecipe, ProbeRecipe, ReleasedRecipe

ROOT = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def paper() -> JointPlan:
    registry = Registry(Path("no datasets.yaml"))
    files = collected(read_yaml(ROOT / "paper.yaml"))
    return JointPlan(tuple(build_plan(resolve(read_experiment(file), "paper"), registry) for file in files))


def pretraining(paper: JointPlan) -> dict[str, PretrainRecipe]:
    """Fingerprint -> recipe."""
    return {s.fingerprint: s.recipe for s in paper.stages if isinstance(s.recipe, PretrainRecipe)}


def heads(paper: JointPlan, encoder: str) -> list[Stage]:
    return [
        stage
        for stage in paper.stages
        if (needed := stage.input("pretrain")) is not None and needed.fingerprint == encoder
    ]


def find(paper: JointPlan, arch: str, resolution: int, *mixture: str, kind: str = "features") -> str:
    """The multi-block pretraining of a model on a mixture."""
    found = [
        fingerprint
        for fingerprint, r in pretraining(paper).items()
        if (r.model.arch, r.pretrain.data.clip.resolution, r.pretrain.objective.kind) == (arch, resolution, kind)
        and tuple(entry.dataset for entry in r.pretrain.data.mixture) == mixture
        and all(mask.kind == "multi_block" and mask.max_temporal_keep == 1 for mask in r.pretrain.masks)
    ]
    assert len(found) == 1
    return found[0]


VIDEO_MIX = ("k710", "ssv2", "howto100m")


def test_eleven_pretraining_runs_for_tables_and_26_for_figure_8(paper: JointPlan) -> None:
    of_tables = [f for f in pretraining(paper) if any(name.startswith("T") for name in paper.serves[f])]
    of_figure = [f for f in pretraining(paper) if paper.serves[f] == ("F8",)]
    assert (len(of_tables), len(of_figure)) == (11, 26)
    assert len(pretraining(paper)) == 37
    clips = sum(
        r.pretrain.optim.batch_size * r.pretrain.optim.iterations
        for f, r in pretraining(paper).items()
        if f in of_tables
    )
    assert clips == 2_980_800_000


def test_one_vit_l_serves_eight_tables(paper: JointPlan) -> None:
    served = set(paper.serves[find(paper, "vit_large", 224, *VIDEO_MIX)])
    assert served == {"T1", "T2", "T3", "T5", "T6", "T12", "T14", "T15", "F1", "F4"}


def test_work_by_kind(paper: JointPlan) -> None:
    assert paper.counts() == Counter(
        {
            "pretraining": 37,
            "probe": 46 + 26,
            "low-shot probe": 36,
            "detection head": 3,
            "fine-tuning": 5,
            "evaluation of a released model": 124,
        }
    )


def test_heads_of_every_checkpoint(paper: JointPlan) -> None:
    large, huge = find(paper, "vit_large", 224, *VIDEO_MIX), find(paper, "vit_huge", 224, *VIDEO_MIX)
    assert len(heads(paper, large)) == 12
    assert len(heads(paper, find(paper, "vit_large", 224, *VIDEO_MIX, kind="pixels"))) == 4
    assert len(heads(paper, huge)) == 10 + 18
    assert len(heads(paper, find(paper, "vit_huge", 384, *VIDEO_MIX))) == 7 + 18
    assert len(heads(paper, find(paper, "vit_huge", 224, "k710", "ssv2"))) == 3
    tuned = {s.recipe.finetune.dataset for s in heads(paper, large) if s.recipe.kind == "finetune"}
    assert tuned == {"k400", "ssv2"}


def test_each_low_shot_probe_has_three_splits_of_one_encoder(paper: JointPlan) -> None:
    probes = [s.recipe for s in paper.stages if isinstance(s.recipe, ProbeRecipe) and s.recipe.probe.label_fraction < 1]
    settings = Counter((r.model.arch, r.probe.dataset, r.probe.label_fraction, r.probe.clip.resolution) for r in probes)
    assert set(settings.values()) == {3}
    assert len(settings) == 12


def test_models_of_others_share_what_tables_share(paper: JointPlan) -> None:
    by_weights = Counter(s.recipe.weights for s in paper.stages if isinstance(s.recipe, ReleasedRecipe))
    assert sorted(by_weights.values()) == [6] * 7 + [10] + [24] * 3
    assert by_weights["videomae_vitl16"] == 10
    assert {by_weights[name] for name in ("mvd_vitl16", "videomae_vith16", "videomaev2_vitg14")} == {24}


def test_no_stage_stands_in_the_plan_twice(paper: JointPlan) -> None:
    fingerprints = [stage.fingerprint for stage in paper.stages]
    assert len(set(fingerprints)) == len(fingerprints)
    assert len({stage.id for stage in paper.stages}) == len(fingerprints)
    places = {fingerprint: i for i, fingerprint in enumerate(fingerprints)}
    assert all(places[n.fingerprint] < places[s.fingerprint] for s in paper.stages for n in s.inputs)


def test_the_whole_paper_on_16_64_and_128_gpus(paper: JointPlan) -> None:
    cluster, _ = read_cluster(ROOT.parent / "clusters/aws-a100.yaml")
    registry = Registry(Path("no datasets.yaml"))

    def asks(stage: Stage) -> Demand | None:
        execution = paper.executions[stage.fingerprint]
        cost = stage_cost(stage, execution, registry)
        return demand(stage, cost, execution, cluster, registry) if cost else None

    pairs = outlooks(paper.plans, (), asks, cluster, [16, 64, 128])
    for one in (one for pair in pairs for one in pair):
        assert Counter(stage.kind for pack in one.work.stages for stage in pack) == {"pretrain": 37, "probe": 72 + 36}
        assert not one.work.unknown
        for run in (*one.runs.values(), one.lossy):
            assert run is not None
            assert run.busy_gpu_s == pytest.approx(run.useful_gpu_s + run.lost_gpu_s)
            assert run.makespan_s >= one.least_s - 1e-6
            assert max(moment.busy_gpus for moment in run.moments) <= run.fleet.gpus
        free, as_run = (one.runs[order].makespan_s for order in (Order.FREE, Order.AS_RUN))
        assert free <= as_run
        assert free <= 1.01 * one.least_s
    for fewer, more in pairwise(pairs):
        for i, order in ((i, order) for i in (0, 1) for order in Order):
            assert more[i].runs[order].makespan_s <= fewer[i].runs[order].makespan_s
    assert [next(iter(worst.seconds())) for _, worst in pairs] == [Limit.GPUS, Limit.CHAIN, Limit.CHAIN]
