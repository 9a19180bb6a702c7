"""What differs between variants, and the page that compares them."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from vjepa_exp.track.compare import ABSENT, MOST_RUNS, compare_page, differences, flat, web_page

ONE_MASK = [{"kind": "multi_block", "num_blocks": 8, "spatial_scale": [0.15, 0.15]}]
TWO_MASKS = [*ONE_MASK, {"kind": "multi_block", "num_blocks": 2, "spatial_scale": [0.7, 0.7]}]


def test_nested_parameters_become_dotted_names() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "masks": [{"kind": "x"}, {"kind": "y"}], "none": None, "empty": {}}
    assert flat(value) == {"a.b": "1", "a.c": "[1, 2]", "masks.0.kind": "x", "masks.1.kind": "y", "none": "None"}


def test_only_what_differs_is_named_and_seeds_are_repeats(make_study) -> None:
    varied = differences(make_study(seeds=[0, 1]).plan.variants)
    assert varied == {
        "low/0": {"vary.pretrain.optim.lr": "0.0001"},
        "low/1": {"vary.pretrain.optim.lr": "0.0001"},
        "high/0": {"vary.pretrain.optim.lr": "0.001"},
        "high/1": {"vary.pretrain.optim.lr": "0.001"},
    }


def test_a_field_that_a_variant_lacks_is_absent(make_study) -> None:
    study = make_study(vary={"axes": {"pretrain.masks": {"one": ONE_MASK, "two": TWO_MASKS}}})
    one, two = (differences(study.plan.variants)[f"{name}/234"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert set(one.values()) == {ABSENT}
    assert two["vary.pretrain.masks.1.num_blocks"] == "2"


def test_a_shared_stage_carries_what_its_variants_agree_on(make_study) -> None:
    study = make_study(
        vary={"axes": {"evaluate.motion.optim.lr": {"a": 0.1, "b": 0.2}, "pretrain.optim.ema": {"x": 0.99, "y": 0.9}}}
    )
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    runs = study.runs()
    of_kind = {
        kind: [
            {name: value for name, value in runs[stage.id].data.params.items() if name.startswith("vary.")}
            for stage in study.plan.stages
            if stage.kind == kind
        ]
        for kind in ("data", "pretrain", "probe")
    }
    assert of_kind["data"] == [{}]
    assert of_kind["pretrain"] == [{"vary.pretrain.optim.ema": "0.99"}, {"vary.pretrain.optim.ema": "0.9"}]
    assert len({tuple(sorted(varied.items())) for varied in of_kind["probe"]}) == 4
    assert all(len(varied) == 2 for varied in of_kind["probe"])


def test_the_page_names_runs_and_experiment_as_mlflow_reads_them() -> None:
    page = compare_page(["a1", "b2"], "7")
    assert not set(page) & set('[]"() ')
    asked = parse_qs(urlsplit(page.removeprefix("#")).query)
    assert {name: json.loads(asked[name][0]) for name in ("runs", "experiments")} == {
        "runs": ["a1", "b2"],
        "experiments": ["7"],
    }
    many = parse_qs(urlsplit(compare_page([f"{i:032}" for i in range(500)], "7")[1:]).query)
    assert len(json.loads(many["runs"][0])) == MOST_RUNS


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://host:5000", "http://host:5000/"),
        ("https://me:secret@host/mlflow/", "https://host/mlflow/"),
        ("sqlite:////runs/mlflow.db", None),
        ("postgresql://me:secret@host/mlflow", None),
    ],
)
def test_a_server_has_pages_and_a_database_none(uri: str, page: str | None) -> None:
    assert web_page(uri) == page


def test_the_study_links_to_the_page_of_its_variants(study) -> None:
    assert study.tracker().compare_page() is None
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    runs = study.runs()
    tags = next(run for run in runs.values() if run.data.tags["kind"] == "study").data.tags
    link = study.tracker().compare_page()
    assert link == f"http://127.0.0.1:5000/{tags['compare']}"
    assert f"({tags['compare']})" in tags["mlflow.note.content"]
    asked = parse_qs(urlsplit(tags["compare"][1:]).query)
    variants = [run for run in runs.values() if run.data.tags["kind"] == "variant"]
    assert sorted(json.loads(asked["runs"][0])) == sorted(run.info.run_id for run in variants)


def test_a_single_variant_is_compared_with_nothing(make_study) -> None:
    study = make_study(vary=None)
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    assert study.tracker().compare_page() is None
