"""The JSON Schema accepts what the loader accepts and refuses what it refuses."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from vjepa_exp.spec.schema import cluster_schema, experiment_schema, profile_schema

EXPERIMENT = {
    "name": "small",
    "recipe": {
        "pretrain": {"data": {"mixture": [{"dataset": "k710"}]}},
        "evaluate": {"k400": {"kind": "attentive_probe", "dataset": "k400"}},
    },
    "profiles": {"laptop": "laptop.yaml", "gpu": {"extends": "gpu.yaml", "overlay": {"seeds": [1]}}},
}


def test_accepts_a_bare_profile_path_and_a_probe_without_a_clip() -> None:
    jsonschema.validate(EXPERIMENT, experiment_schema())


@pytest.mark.parametrize("bad", [{"nmae": "x"}, {"recipe": {}}, {"profiles": {"laptop": 3}}])
def test_refuses_what_the_loader_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(EXPERIMENT | bad, experiment_schema())


def test_profile_schema_wants_a_description() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"overlay": {}}, profile_schema())


def test_cluster_schema_takes_the_clusters_and_no_unknown_key(repo_root: Path) -> None:
    for file in (repo_root / "clusters").glob("*.yaml"):
        cluster = yaml.safe_load(file.read_text(encoding="utf-8"))
        jsonschema.validate(cluster, cluster_schema())
        with pytest.raises(jsonschema.ValidationError, match="max_node"):
            jsonschema.validate(cluster | {"gpu": cluster["gpu"] | {"max_node": 1}}, cluster_schema())
