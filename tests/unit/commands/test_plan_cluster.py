"""`plan --cluster` and `plan --simulate`, through the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]
TABLE6 = ("plan", "table6_frozen", "--profile", "paper", "--cluster")
PRICE = 'price_per_hour: {on_demand: 10, spot: 4, source: "made up for a test, 1 May 2026"}'


@pytest.fixture
def own(repo_root: Path, tmp_path: Path) -> Callable[..., str]:
    """A copy of the cluster for AWS with changes."""

    def own(*changes: tuple[str, str]) -> str:
        text = (repo_root / "clusters/aws-a100.yaml").read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
        return "own.yaml"

    return own


def line_of(out: str, start: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(start))


def test_a_plan_for_a_cluster_says_what_each_kind_of_stage_asks_for(call: Call) -> None:
    code, out, err = call(*TABLE6, "aws-a100")
    assert code == 0, err
    assert "on cluster 'vjepa-a100'" in out
    assert "up to 4 x p4d.24xlarge (8 A100 40GB, 96 CPUs), spot" in out
    assert "for decoding up to 8 x m7i.12xlarge (48 CPUs), spot" in out
    large, huge = line_of(out, "pretraining large 224"), line_of(out, "pretraining huge 384")
    for words in ("7 days - 13 days", "compute", "5.13 GB", "10 s"):
        assert words in large
    assert "43 days - 77 days" in huge
    memory = re.search(r"([\d.]+) GB", huge)
    assert memory is not None
    assert 20 < float(memory[1]) <= 40
    assert re.search(r"need up to \d\d(\.\d)? GB of 40 with execution.micro_batch=12", line_of(out, "memory:"))
    assert "no price configured (gpu.price_per_hour.spot of " in line_of(out, "cost:")
    assert "0.02 interruptions a node and hour" in line_of(out, "losses:")
    assert "25-45 % of 312 TFLOP/s" in line_of(out, "assumed:")


def test_json_holds_every_stage_and_the_sums(call: Call, own: Callable[..., str]) -> None:
    file = own(("spot: true", f"spot: true\n  {PRICE}"))
    data = json.loads(call(*TABLE6, file, "--json")[1])
    there = data["cluster"]
    assert set(there["stages"]) == {stage["id"] for stage in data["stages"] if stage["state"] == "to do"}
    asked = there["stages"].values()
    for end in (0, 1):
        assert there["sum"]["gpu_hours"][end] == pytest.approx(sum(one["gpus"] * one["hours"][end] for one in asked))
        assert there["sum"]["price_usd"][end] == pytest.approx(4 * sum(one["node_hours"][end] for one in asked))
    assert there["cluster"]["gpu"]["price_per_hour"]["source"] == "made up for a test, 1 May 2026"
    assert "simulation" not in data


def test_a_price_is_repeated_with_its_source(call: Call, own: Callable[..., str]) -> None:
    file = own(("  spot: true", f"  spot: false\n  {PRICE}"))
    cost = line_of(call(*TABLE6, file)[1], "cost:")
    assert "USD for " in cost
    assert "gpu 10 (on demand); source: made up for a test, 1 May 2026" in cost


def test_a_simulation_of_several_sizes(call: Call, own: Callable[..., str], tmp_path: Path) -> None:
    file = own(("  interruptions_per_node_hour: 0.02\n", ""))
    code, out, err = call(*TABLE6, file, "--simulate", "16,64", "--picture", "pictures/sim.png")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if line.startswith(("  16 ", "  64 "))]
    assert [(row[0], row[1]) for row in rows] == [("16", "2")] * 2 + [("64", "8")] * 2
    assert "studies together" not in out  # there is one
    assert "the longest chain: pretrain-vit_huge-multiblock-s234-" in line_of(out, "64 GPUs, as run does it, at worst")
    assert (tmp_path / "pictures/sim.png").read_bytes().startswith(b"\x89PNG")
    assert err == "picture: pictures/sim.png\n"
    data = json.loads(call(*TABLE6, file, "--simulate", "64", "--json")[1])["simulation"]
    assert [one["assumptions"] for one in data] == ["best", "worst"]
    for one in data:
        spans = [run["makespan_s"] for run in one["orders"].values()]
        assert spans == sorted(spans, reverse=True)
        assert spans[-1] >= max(one["limit_s"]["chain"], one["limit_s"]["gpu_hours"]) - 1e-6
        assert one["with_losses"] is None
        assert all(len(run["tasks"]) == 18 for run in one["orders"].values())


def test_lost_nodes_are_simulated_where_a_rate_is_stated(call: Call) -> None:
    names = ("table4_masking", "table3_pooling")
    out = call("plan", *names, "--profile", "paper", "--cluster", "aws-a100", "--simulate", "32")[1]
    assert "  32      4  no level waits" in out
    lossy = line_of(out, "  32      4  as run does it, nodes lost").split()
    assert int(lossy[-2]) > 0
    assert "lost nodes" in line_of(out, "32 GPUs, as run does it, at worst")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--cluster", "aws-a100", "--simulate", "16,x"), "numbers of GPUs are needed, as in --simulate 16,64,128"),
        (("--cluster", "aws-a100", "--simulate", "1" * 5000), "numbers of GPUs are needed"),
        (("--cluster", "aws-a100", "--simulate", "0"), "numbers of GPUs are needed"),
        (("--cluster", "aws-a100", "--simulate", "12"), "a node of cluster 'vjepa-a100' has 8 GPUs"),
        (("--cluster", "aws-a100", "--picture", "a.png"), "add --simulate 16,64,128"),
        (("--cluster", "azure"), "no such file. Clusters that come with vjepa-exp: aws-a100"),
        (("--simulate", "16"), "need a cluster to simulate: --cluster clusters/aws-a100.yaml"),
        (("--cluster", "aws-a100", "--set", "execution.workers=64"), "asks for 64 GPUs (execution.workers)"),
        (("--cluster", "aws-a100", "--set", "execution.decode_workers=1000"), "lower execution.decode_workers"),
    ],
)
def test_a_users_mistake_is_one_line(call: Call, more: tuple[str, ...], words: str) -> None:
    code, _, err = call("plan", "table6_frozen", "--profile", "paper", *more)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err


def test_a_price_without_a_source_is_refused(call: Call, own: Callable[..., str]) -> None:
    file = own(("  spot: true", "  spot: true\n  price_per_hour: {spot: 4}"))
    code, _, err = call(*TABLE6, file)
    assert (code, err.count("\n")) == (2, 1)
    assert "gpu.price_per_hour" in err
    assert "source" in err
