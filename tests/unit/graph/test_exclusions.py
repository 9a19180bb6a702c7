from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vjepa_exp.graph.plan import Plan, build_plan
from vjepa_exp.spec.datasets import DatasetEntry, Registry
from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.load import read_experiment, resolve
from vjepa_exp.spec.removal import ListedSet, Removal, RemovalList


@pytest.fixture
def mine(tmp_path: Path) -> Registry:
    (tmp_path / "mine.parquet").write_bytes(b"a manifest")
    registry = Registry(tmp_path / "datasets.yaml")
    registry.register("mine", DatasetEntry(manifest="mine.parquet"))
    return registry


def a_list(path: Path, *videos: str, manifest: bytes = b"a manifest", name: str = "mine") -> Path:
    source = ListedSet(name, "train", hashlib.sha256(manifest).hexdigest())
    RemovalList(source, (ListedSet("k400", "val", "0"),), tuple(map(Removal, videos)), path).write()
    return path


def plan(load, registry: Registry, exclude: str | None) -> Plan:
    entry = "{dataset: mine}" if exclude is None else f"{{dataset: mine, exclude: {exclude}}}"
    return build_plan(load("", f"recipe.pretrain.data.mixture=[{entry}]"), registry)


def fingerprint(plan: Plan) -> str:
    [stage] = plan.pretraining.values()
    return stage.fingerprint


def test_the_content_of_a_list_enters_the_fingerprint_and_its_place_does_not(
    load, mine: Registry, tmp_path: Path
) -> None:
    first = a_list(tmp_path / "one.csv", "a.mp4", "b.mp4")
    moved = a_list(tmp_path / "far" / "away.csv", "a.mp4", "b.mp4")
    a_list(tmp_path / "other.csv", "a.mp4")
    without, one = plan(load, mine, None), plan(load, mine, "one.csv")
    assert {fingerprint(plan(load, mine, str(path))) for path in (first, moved, "far/away.csv")} == {fingerprint(one)}
    assert len({fingerprint(one), fingerprint(plan(load, mine, "other.csv")), fingerprint(without)}) == 3
    assert [removals.file for removals in one.removals.values()] == [first.resolve()]
    assert without.removals == {}


def test_an_entry_without_a_list_is_written_as_before_there_were_lists(load, mine: Registry) -> None:
    [stage] = plan(load, mine, None).pretraining.values()
    assert stage.recipe.model_dump()["pretrain"]["data"]["mixture"] == ({"dataset": "mine", "weight": None},)


def test_a_list_that_is_not_there_is_asked_for_where_it_is_named(load, mine: Registry) -> None:
    file = load().path
    file.write_text(file.read_text().replace("{dataset: tiny_motion}]", "{dataset: mine, exclude: gone.csv}]", 1))
    with pytest.raises(SpecError) as caught:
        build_plan(resolve(read_experiment(file), "paper"), mine)
    [problem] = caught.value.problems
    assert str(problem.mark) == f"{file}:7"
    assert problem.path == "recipe.pretrain.data.mixture.0.exclude"
    assert "vjepa-exp data leaks mine" in problem.message


def test_a_list_of_the_base_is_asked_for_where_a_mix_names_its_set(load, tmp_path: Path) -> None:
    (tmp_path / "k710.parquet").write_bytes(b"a manifest")
    registry = Registry(tmp_path / "datasets.yaml")
    registry.register("k710", DatasetEntry(manifest="k710.parquet"))
    mixture = "recipe.pretrain.data.mixture=[{dataset: k710, exclude: gone.csv}]"
    with pytest.raises(SpecError, match=r"there is no removal list .*gone\.csv"):
        build_plan(load("vary: {ablation: data_mix.mixes}\n", mixture), registry)


@pytest.mark.parametrize(
    ("made_for", "words"),
    [
        ({"manifest": b"an older manifest"}, "another version of data set 'mine'"),
        ({"manifest": b"another", "name": "k400"}, "'k400' and not for 'mine'"),
    ],
)
def test_a_list_for_something_else_is_refused(
    load, mine: Registry, tmp_path: Path, made_for: dict[str, object], words: str
) -> None:
    path = a_list(tmp_path / "old.csv", "a.mp4", **made_for)  # type: ignore[arg-type]
    with pytest.raises(SpecError) as caught:
        plan(load, mine, "old.csv")
    [problem] = caught.value.problems
    assert str(problem.mark) == f"{path.resolve()}:2"
    assert words in problem.message
    assert f"vjepa-exp data leaks mine k400 --out {path.resolve()}" in problem.message


def test_lists_of_data_sets_that_are_not_here_are_not_asked_for(load, registry: Registry) -> None:
    assert plan(load, registry, "nowhere.csv").missing_datasets == ("mine",)
