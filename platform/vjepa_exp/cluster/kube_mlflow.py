"""MLflow and PostgreSQL on Kubernetes: reachable inside the namespace alone, passwords in a Secret that exists."""

from __future__ import annotations

from vjepa_exp.cluster.layout import MLFLOW_ADMIN, MLFLOW_PORT, POSTGRES_PORT, Tree, artifacts_folder, serve_command
from vjepa_exp.cluster.pods import container_security, pod_security, resources, shared_volume, shared_volume_mount
from vjepa_exp.spec.cluster import ClusterSpec, InClusterTracking

POSTGRES_USER_ID = 999
ADMIN_KEY = "admin-password"
DATA = "/var/lib/postgresql/data"


def server_uri(spec: ClusterSpec) -> str:
    """The server as pods of the namespace reach it."""
    return f"http://{_mlflow(spec)}:{MLFLOW_PORT}"


def mlflow_objects(spec: ClusterSpec) -> list[Tree]:
    """Deployment of MLflow, StatefulSet of PostgreSQL, a Service and a NetworkPolicy of each."""
    assert isinstance(spec.tracking, InClusterTracking)
    assert spec.providers.kuberay is not None
    namespace = spec.providers.kuberay.namespace
    mlflow, postgres = _mlflow(spec), _postgres(spec)
    password = _from_secret(spec.tracking, "password")
    database = _postgres_pod(spec.tracking, password)
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{spec.tracking.disk_gib}Gi"}},
            **({"storageClassName": name} if (name := spec.providers.kuberay.storage_class) else {}),
        },
    }
    one = {"replicas": 1}
    return [
        _object("apps/v1", "StatefulSet", postgres, namespace)
        | {"spec": {**one, "serviceName": postgres, **_pods(postgres, database), "volumeClaimTemplates": [claim]}},
        _service(postgres, namespace, POSTGRES_PORT),
        _policy(postgres, namespace, POSTGRES_PORT, {"matchLabels": _labels(mlflow)}),
        _object("apps/v1", "Deployment", mlflow, namespace)
        | {"spec": {**one, "strategy": {"type": "Recreate"}, **_pods(mlflow, _mlflow_pod(spec, password))}},
        _service(mlflow, namespace, MLFLOW_PORT),
        _policy(mlflow, namespace, MLFLOW_PORT, {}),
    ]


def client_variables(spec: ClusterSpec) -> list[Tree]:
    """What a driver writes runs with: variables of the head's pod; no worker talks to MLflow."""
    if not isinstance(spec.tracking, InClusterTracking):
        return []
    return [
        {"name": "MLFLOW_TRACKING_USERNAME", "value": MLFLOW_ADMIN},
        {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": _from_secret(spec.tracking, ADMIN_KEY)},
    ]


def _from_secret(tracking: InClusterTracking, key: str) -> Tree:
    return {"secretKeyRef": {"name": tracking.secret, "key": key}}


def _mlflow(spec: ClusterSpec) -> str:
    return f"{spec.name}-mlflow"


def _postgres(spec: ClusterSpec) -> str:
    return f"{spec.name}-postgres"


def _mlflow_pod(spec: ClusterSpec, password: Tree) -> Tree:
    """libpq and MLflow take passwords from the environment, so that they stand in no argument and no URI."""
    assert isinstance(spec.tracking, InClusterTracking)
    container = {
        "name": "mlflow",
        "image": spec.image,
        "command": serve_command(_postgres(spec), artifacts_folder(spec), [_mlflow(spec)]),
        "env": [
            {"name": "PGPASSWORD", "valueFrom": password},
            {"name": "MLFLOW_AUTH_ADMIN_PASSWORD", "valueFrom": _from_secret(spec.tracking, ADMIN_KEY)},
        ],
        "ports": [{"name": "http", "containerPort": MLFLOW_PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": MLFLOW_PORT}, "periodSeconds": 10},
        "resources": resources(2, 4, None),
        "volumeMounts": [shared_volume_mount(spec)],
        "securityContext": container_security(),
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [shared_volume(spec)],
    }


def _postgres_pod(tracking: InClusterTracking, password: Tree) -> Tree:
    container = {
        "name": "postgres",
        "image": tracking.postgres_image,
        "env": [
            {"name": "POSTGRES_USER", "value": "mlflow"},
            {"name": "POSTGRES_DB", "value": "mlflow"},
            {"name": "PGDATA", "value": f"{DATA}/pgdata"},  # a fresh disk holds lost+found, which initdb refuses
            {"name": "POSTGRES_PASSWORD", "valueFrom": password},
        ],
        "ports": [{"name": "postgres", "containerPort": POSTGRES_PORT}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-U", "mlflow"]}, "periodSeconds": 10},
        "resources": resources(1, 2, None),
        "volumeMounts": [{"name": "data", "mountPath": DATA}],
        "securityContext": container_security(),
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": pod_security(POSTGRES_USER_ID),
        "containers": [container],
    }


def _object(api: str, kind: str, name: str, namespace: str) -> Tree:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": _labels(name)},
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _pods(name: str, pod: Tree) -> Tree:
    return {
        "selector": {"matchLabels": _labels(name)},
        "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
    }


def _service(name: str, namespace: str, port: int) -> Tree:
    ports = [{"port": port, "targetPort": port}]
    spec = {"type": "ClusterIP", "selector": _labels(name), "ports": ports}
    return _object("v1", "Service", name, namespace) | {"spec": spec}


def _policy(name: str, namespace: str, port: int, peers: Tree) -> Tree:
    """Only pods of the namespace with these labels reach this port, and no other port is reached."""
    rule = {"from": [{"podSelector": peers}], "ports": [{"protocol": "TCP", "port": port}]}
    spec = {"podSelector": {"matchLabels": _labels(name)}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, namespace) | {"spec": spec}
