"""Files for Kubernetes, as Ray's autoscaler and Kubernetes read them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.runtime.cluster import check_ray_cluster
from vjepa_exp.spec.errors import UserError

Render = Callable[..., dict[str, list[Tree]]]


def cluster_of(files: dict[str, list[Tree]]) -> Tree:
    return files["team.raycluster.yaml"][0]


def pods(files: dict[str, list[Tree]]) -> Iterator[Tree]:
    """Every pod spec in the files."""

    def inside(tree: Any) -> Iterator[Tree]:
        if isinstance(tree, dict):
            if "containers" in tree:
                yield tree
            for value in tree.values():
                yield from inside(value)
        elif isinstance(tree, list):
            for value in tree:
                yield from inside(value)

    yield from inside(list(files.values()))


@pytest.mark.parametrize("changes", [{}, {"decode": None}, {"gpu.spot": False}])
def test_rays_autoscaler_takes_cluster_and_job(rendered: Render, changes: dict[str, Any]) -> None:
    files = rendered("kuberay", changes)
    check_ray_cluster("cluster", files["team.raycluster.yaml"][0])
    check_ray_cluster("job", files["team.rayjob.yaml"][0])


def test_rays_autoscaler_sees_the_groups_before_their_first_node(rendered: Render) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    config = _derive_autoscaling_config_from_ray_cr(cluster_of(rendered("kuberay")))
    types = config["available_node_types"]
    gpu = types["gpu"]["resources"]
    assert (gpu["CPU"], gpu["GPU"], gpu["accelerator_type:A100"], gpu["memory"]) == (80, 8, 1, 900 * 2**30)
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 4)
    assert (types["decode"]["min_workers"], types["decode"]["max_workers"]) == (1, 6)
    assert "GPU" not in types["decode"]["resources"]
    assert types["headgroup"]["resources"]["CPU"] == 1
    assert config["idle_timeout_minutes"] == 7.5


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"resources": {}, "template": {"spec": {"containers": [{}]}}}, "failed to detect `CPU` resources"),
        ({"labels": {"a b": "c"}}, "a b"),
        ({"minReplicas": 9, "maxReplicas": 4}, "smaller than the sum of `min_workers`"),
    ],
)
def test_what_ray_refuses_is_one_line(rendered: Render, group: Tree, words: str) -> None:
    cluster = cluster_of(rendered("kuberay", {"decode": None}))
    cluster["spec"]["workerGroupSpecs"][0] |= group
    with pytest.raises(UserError) as caught:
        check_ray_cluster("team.raycluster.yaml", cluster)
    [text] = str(caught.value).splitlines()
    assert text.startswith("team.raycluster.yaml: ")
    assert words in text


def test_spot_and_gpu_nodes_are_found_and_tolerated(rendered: Render) -> None:
    gpu, decode = (g["template"]["spec"] for g in cluster_of(rendered("kuberay"))["spec"]["workerGroupSpecs"])
    assert gpu["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-a100",
        "cloud.google.com/gke-spot": "true",
    }
    assert {t["key"] for t in gpu["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert "nodeSelector" not in decode
    assert "tolerations" not in decode
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_a_job_runs_a_command_that_there_is(rendered: Render) -> None:
    """Its words are parsed by the command line itself, up to the experiment."""
    from vjepa_exp.cli import app

    job = rendered("kuberay")["team.rayjob.yaml"][0]["spec"]
    program, *words = shlex.split(job["entrypoint"])
    assert program == "vjepa-exp"
    assert words[words.index("--tracking") + 1] == "http://team-mlflow:5000"
    assert words[words.index("--store") + 1] == "/mnt/vjepa/runs"
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--no-such-option", "--help"]).exit_code == 2


def test_every_pod_sees_the_shared_disk_and_runs_without_root(rendered: Render) -> None:
    for changes, volume in (
        ({}, {"nfs": {"server": "10.0.0.2", "path": "/share"}}),
        ({"storage.uri": "pvc://runs", "providers.aws": None, "providers.gcp": None}, None),
    ):
        wanted = volume or {"persistentVolumeClaim": {"claimName": "runs"}}
        files = rendered("kuberay", changes)
        found = list(pods(files))
        assert len(found) == 8, "three of the cluster, three of the job, MLflow, PostgreSQL"
        for pod in found:
            assert pod["securityContext"]["runAsNonRoot"] is True
            [container] = pod["containers"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            if container["name"] != "postgres":
                assert pod["volumes"] == [{"name": "shared", **wanted}]
                assert {"name": "shared", "mountPath": "/mnt/vjepa"} in container["volumeMounts"]


def test_passwords_are_references_and_services_stay_inside(rendered: Render) -> None:
    objects = rendered("kuberay")["team.mlflow.yaml"]
    kinds = [document["kind"] for document in objects]
    assert sorted(kinds) == sorted(["StatefulSet", "Deployment", *2 * ["Service"], *2 * ["NetworkPolicy"]])
    assert all(document["metadata"]["namespace"] == "research" for document in objects)
    assert {document["spec"]["type"] for document in objects if document["kind"] == "Service"} == {"ClusterIP"}
    reference = {"secretKeyRef": {"name": "our-postgres", "key": "password"}}
    variables = [v for pod in pods({"": objects}) for v in pod["containers"][0]["env"]]
    admin = {"secretKeyRef": {"name": "our-postgres", "key": "admin-password"}}
    assert {v["name"]: v.get("valueFrom") for v in variables if "PASSWORD" in v["name"]} == {
        "POSTGRES_PASSWORD": reference,
        "PGPASSWORD": reference,
        "MLFLOW_AUTH_ADMIN_PASSWORD": admin,
    }
    policies = {d["metadata"]["name"]: d["spec"]["ingress"][0] for d in objects if d["kind"] == "NetworkPolicy"}
    assert policies["team-postgres"]["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "team-mlflow"}}}
    ]
    selectors = [d["spec"]["selector"] for d in objects if d["kind"] == "Service"]
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in objects if "template" in d["spec"]]
    assert sorted(map(json.dumps, selectors)) == sorted(map(json.dumps, labels))


def test_mlflow_asks_for_the_password_that_drivers_have(rendered: Render) -> None:
    """Its command is parsed by the command line itself; workers, which never talk to it, know no password."""
    from vjepa_exp.cli import app

    files = rendered("kuberay")
    [server] = [c for pod in pods(files) for c in pod["containers"] if c["name"] == "mlflow"]
    program, *words = server["command"]
    assert (program, words[:2]) == ("vjepa-exp", ["ui", "--serve"])
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    spec = cluster_of(files)["spec"]
    [head] = spec["headGroupSpec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable for variable in head["env"]}
    assert variables["MLFLOW_TRACKING_USERNAME"]["value"] == "admin"
    assert variables["MLFLOW_TRACKING_PASSWORD"]["valueFrom"]["secretKeyRef"]["key"] == "admin-password"
    assert "MLFLOW_TRACKING" not in json.dumps(spec["workerGroupSpecs"])


def test_an_external_server_brings_no_pods(rendered: Render) -> None:
    files = rendered("kuberay", {"tracking": {"kind": "external", "uri": "https://mlflow.example.com"}})
    assert list(files) == ["team.raycluster.yaml", "team.rayjob.yaml"]
    assert "PASSWORD" not in json.dumps(files), "whose password we do not have"
    assert "--tracking https://mlflow.example.com" in files["team.rayjob.yaml"][0]["spec"]["entrypoint"]


def test_kubernetes_own_models_take_every_object(rendered: Render) -> None:
    """They are strict: an unknown field is an error. Runs where Kubernetes' Python client is installed."""
    models = pytest.importorskip("kubernetes", reason="pip install kubernetes to check the objects").client.models
    files = rendered("kuberay", {"providers.kuberay.worker_service_account": "reader"})
    workers = [g["template"]["spec"] for g in cluster_of(files)["spec"]["workerGroupSpecs"]]
    assert {pod["serviceAccountName"] for pod in workers} == {"reader"}
    for document in files["team.mlflow.yaml"]:
        getattr(models, f"V1{document['kind']}").model_validate(document)
    for pod in pods({name: files[name] for name in ("team.raycluster.yaml", "team.rayjob.yaml")}):
        models.V1PodSpec.model_validate(pod)
        with pytest.raises(ValueError, match="toleration"):
            models.V1PodSpec.model_validate({**pod, "toleration": []})


FIELDS = {
    "RayJobSpec": "entrypoint submissionMode backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished "
    "rayClusterSpec",
    "RayClusterSpec": "rayVersion enableInTreeAutoscaling autoscalerOptions authOptions headGroupSpec workerGroupSpecs",
    "AutoscalerOptions": "version idleTimeoutSeconds upscalingMode",
    "AuthOptions": "mode",
    "HeadGroupSpec": "serviceType rayStartParams template",
    "WorkerGroupSpec": "groupName replicas minReplicas maxReplicas rayStartParams resources template",
}
"""Fields of KubeRay's API that we use, by its reference; pods are Kubernetes' own."""


def test_only_fields_of_kuberays_api_are_written(rendered: Render) -> None:
    job = rendered("kuberay")["team.rayjob.yaml"][0]["spec"]
    cluster = job["rayClusterSpec"]
    parts = [
        ("RayJobSpec", job),
        ("RayClusterSpec", cluster),
        ("AutoscalerOptions", cluster["autoscalerOptions"]),
        ("AuthOptions", cluster["authOptions"]),
        ("HeadGroupSpec", cluster["headGroupSpec"]),
        *(("WorkerGroupSpec", group) for group in cluster["workerGroupSpecs"]),
    ]
    for name, part in parts:
        assert set(part) <= set(FIELDS[name].split()), name
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for values in (group["rayStartParams"], group.get("resources", {})):
            assert all(isinstance(value, str) for value in values.values())
