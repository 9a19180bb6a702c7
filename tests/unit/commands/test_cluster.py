"""`cluster render` and `cluster validate`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CLUSTERS = ("aws-a100", "gcp-a100", "kuberay-a100")


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_that_come_along_are_valid_and_open_with_their_schema(call, repo_root: Path, name: str) -> None:
    code, out, err = call("cluster", "validate", name)
    assert code == 0, err
    assert out.startswith("OK ")
    assert call("validate", f"clusters/{name}.yaml")[0] == 0
    first = (repo_root / "clusters" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=../docs/cluster.schema.json"


def test_every_cluster_that_comes_along_is_tried(repo_root: Path) -> None:
    assert sorted(CLUSTERS) == sorted(file.stem for file in (repo_root / "clusters").iterdir())


def test_render_writes_what_yaml_readers_read(call, tmp_path: Path) -> None:
    assert call("cluster", "render", "kuberay-a100", "--provider", "kuberay", "--out", "k8s")[0] == 0
    assert call("cluster", "render", "aws-a100")[0] == 0
    texts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.yaml")}
    assert set(texts) == {
        "vjepa-a100.aws.yaml",
        "vjepa-a100.raycluster.yaml",
        "vjepa-a100.rayjob.yaml",
        "vjepa-a100.mlflow.yaml",
    }
    read = {name: list(yaml.safe_load_all(text)) for name, text in texts.items()}
    assert read["vjepa-a100.aws.yaml"][0]["cluster_name"] == "vjepa-a100"
    assert [len(read[name]) for name in sorted(read)] == [1, 6, 1, 1]
    for text in texts.values():
        assert text.startswith("# Written by `vjepa-exp cluster render`")
        assert "&id" not in text


def test_an_experiment_of_ones_own_is_what_the_job_runs(call, tmp_path: Path) -> None:
    assert call("cluster", "render", "kuberay-a100", "--experiment", "table3_pooling")[0] == 0
    [job] = yaml.safe_load_all((tmp_path / "rendered/vjepa-a100.rayjob.yaml").read_text(encoding="utf-8"))
    assert job["spec"]["entrypoint"].startswith("vjepa-exp run table3_pooling --profile paper ")


def test_a_users_mistake_is_one_line(call, repo_root: Path, tmp_path: Path) -> None:
    code, _, err = call("cluster", "render", "azure-a100")
    assert (code, err.count("\n")) == (2, 1)
    assert "aws-a100, gcp-a100, kuberay-a100" in err
    code, _, err = call("cluster", "render", "aws-a100", "--provider", "gcp")
    assert (code, err.count("\n")) == (2, 1)
    assert "aws-a100.yaml:5: providers: has no section 'gcp'" in err
    text = (repo_root / "clusters/gcp-a100.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(text.replace("gpus_per_node: 8", "gpus_per_node: 16"), encoding="utf-8")
    for command in (("validate",), ("cluster", "validate"), ("cluster", "render")):
        code, _, err = call(*command, "own.yaml")
        assert (code, err.count("\n")) == (2, 1)
        assert "own.yaml:17: gpu.gpus_per_node: 16 is not one of 1, 2, 4 or 8" in err
    assert not (tmp_path / "rendered").exists()


def test_a_folder_that_cannot_be_written_is_one_line(call, tmp_path: Path) -> None:
    (tmp_path / "rendered").write_text("a file")
    code, _, err = call("cluster", "render", "aws-a100")
    assert (code, err.count("\n")) == (2, 1)
    assert "rendered cannot be written" in err


def test_a_run_that_a_cluster_can_never_hold_is_refused_in_a_line_before_anything_is_made(call, tmp_path: Path) -> None:
    sets = ("--set", "execution.device=cuda", "--set", "execution.workers=64")
    code, out, err = call("run", "table4_masking", "--profile", "smoke", "--cluster", "aws-a100", *sets)
    (line,) = err.splitlines()
    asked, there = line.split(", but ")
    assert (code, asked) == (2, "error: execution.device is cuda and execution.workers 64")
    assert there == "there are 32 GPUs at most on the cluster vjepa-a100"
    assert not list((tmp_path / "runs").glob("data-*"))
    words = " ".join(out.split())
    assert "device GPU, 64 a stage: execution.device says so; on the cluster vjepa-a100: 32 x A100" in words


def test_a_run_on_a_cluster_that_is_not_there_is_refused(call) -> None:
    code, _, err = call("run", "table4_masking", "--cluster", "nowhere")
    assert code == 2
    assert err.startswith("error: nowhere: no such file. Clusters that come with vjepa-exp: aws-a100")
