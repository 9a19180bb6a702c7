"""MLflow and PostgreSQL on Kubernetes: reachable inside the namespace alone, the password in a Secret that exists."""

from __future__ import annotations

from vjepa_exp.cluster.layout import MLFLOW_PORT, NO_JOBS, POSTGRES_PORT, Tree, artifacts_folder
from vjepa_exp.cluster.pods import container_security, pod_security, resources, shared_volume, shared_volume_mount
from vjepa_exp.spec.cluster import ClusterSpec, InClusterTracking

POSTGRES_USER_ID = 999
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
    password = {"secretKeyRef": {"name": spec.tracking.secret, "key": "password"}}
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


def _mlflow(spec: ClusterSpec) -> str:
    return f"{spec.name}-mlflow"


def _postgres(spec: ClusterSpec) -> str:
    return f"{spec.name}-postgres"


def _mlflow_pod(spec: ClusterSpec, password: Tree) -> Tree:
    """libpq takes the password from the environment, so that it stands in no argument and no URI."""
    hosts = [_mlflow(spec), f"{_mlflow(spec)}:*", "localhost:*", "127.0.0.1:*"]
    container = {
        "name": "mlflow",
        "image": spec.image,
        "command": ["mlflow", "server", "--host", "0.0.0.0", "--port", str(MLFLOW_PORT)],
        "args": [
            f"--backend-store-uri=postgresql+psycopg2://mlflow@{_postgres(spec)}/mlflow",
            f"--artifacts-destination={artifacts_folder(spec)}",
            f"--allowed-hosts={','.join(hosts)}",
        ],
        "env": [
            {"name": "PGPASSWORD", "valueFrom": password},
            *({"name": name, "value": value} for name, value in NO_JOBS.items()),
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
