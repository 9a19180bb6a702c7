"""JSON Schemas of the YAML files, for completion and hover text in editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vjepa_exp.spec.cluster import ClusterSpec
from vjepa_exp.spec.experiment import Experiment, Profile


def experiment_schema() -> dict[str, Any]:
    """Schema of an experiment file as it is written: a profile may be a bare path, a probe may inherit its clip."""
    schema = Experiment.model_json_schema(mode="validation")
    schema["title"] = "vjepa-exp experiment"
    by_name = schema["properties"]["profiles"]["patternProperties"]
    for pattern, profile in by_name.items():
        by_name[pattern] = {"anyOf": [{"type": "string"}, profile]}
    for definition in schema["$defs"].values():
        if "dataset" in definition.get("properties", {}) and "clip" in definition.get("required", []):
            definition["required"].remove("clip")
    return schema


def profile_schema() -> dict[str, Any]:
    """Schema of a profile file."""
    return {**Profile.model_json_schema(mode="validation"), "title": "vjepa-exp profile"}


def cluster_schema() -> dict[str, Any]:
    """Schema of a cluster file."""
    return {**ClusterSpec.model_json_schema(mode="validation"), "title": "vjepa-exp cluster"}


def write_schemas(folder: Path) -> list[Path]:
    """Write all schemas into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    schemas = {"experiment": experiment_schema(), "profile": profile_schema(), "cluster": cluster_schema()}
    for name, schema in schemas.items():
        path = folder / f"{name}.schema.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written
