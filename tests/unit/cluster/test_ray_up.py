"""Files for `ray up`, as Ray, EC2 and a shell read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from vjepa_exp.cluster.layout import Tree
from vjepa_exp.runtime.cluster import check_ray_up
from vjepa_exp.spec.errors import UserError

Render = Callable[..., dict[str, list[Tree]]]


def one(files: dict[str, list[Tree]]) -> Tree:
    [[document]] = files.values()
    return document


@pytest.mark.parametrize("provider", ["aws", "gcp"])
@pytest.mark.parametrize("changes", [{}, {"decode": None}, {"tracking": {"kind": "external", "uri": "http://m:5000"}}])
def test_ray_takes_the_file(rendered: Render, provider: str, changes: dict[str, Any]) -> None:
    check_ray_up("team.yaml", one(rendered(provider, changes)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_worker": 3}, "'max_worker' was unexpected"),
        ({"idle_timeout_minutes": "10"}, "idle_timeout_minutes: Ray's schema says: '10' is not of type 'number'"),
        ({"head_node_type": "boss"}, "`head_node_type` must be one of"),
        ({"max_workers": 0}, "smaller than the sum of `min_workers`"),
        ({"docker": {"image": "a:1"}}, "Must provide a container & image name"),
    ],
)
def test_what_ray_refuses_is_one_line(rendered: Render, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_ray_up("team.aws.yaml", one(rendered("aws")) | change)
    [text] = str(caught.value).splitlines()
    assert text.startswith("team.aws.yaml: ")
    assert words in text


@pytest.mark.parametrize(
    ("provider", "gpu", "decode", "gpu_cpus", "decode_cpus"),
    [("aws", "p4de.24xlarge", "m7i.12xlarge", 96, 48), ("gcp", "a2-ultragpu-8g", "c3-highcpu-44", 96, 44)],
)
def test_groups_are_the_machines_that_are_sold(
    rendered: Render, provider: str, gpu: str, decode: str, gpu_cpus: int, decode_cpus: int
) -> None:
    types = one(rendered(provider))["available_node_types"]
    key = "InstanceType" if provider == "aws" else "machineType"
    assert types["gpu"]["node_config"][key] == gpu
    assert types["decode"]["node_config"][key] == decode
    assert types["gpu"]["resources"] == {"CPU": gpu_cpus, "GPU": 8, "accelerator_type:A100": 1}
    assert types["decode"]["resources"] == {"CPU": decode_cpus}
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 4)
    assert (types["decode"]["min_workers"], types["decode"]["max_workers"]) == (1, 6)
    assert types["head"]["max_workers"] == 0


def test_only_what_is_asked_for_is_a_spot_node(rendered: Render) -> None:
    aws = {name: node["node_config"] for name, node in one(rendered("aws"))["available_node_types"].items()}
    assert [name for name, config in aws.items() if "InstanceMarketOptions" in config] == ["gpu"]
    gcp = {name: node["node_config"] for name, node in one(rendered("gcp"))["available_node_types"].items()}
    assert gcp["gpu"]["scheduling"] == {
        "onHostMaintenance": "TERMINATE",
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
    }
    assert "scheduling" not in gcp["head"]
    assert "scheduling" not in gcp["decode"]
    gcp = one(rendered("gcp", {"gpu.spot": False}))["available_node_types"]["gpu"]["node_config"]
    assert gcp["scheduling"] == {"onHostMaintenance": "TERMINATE"}


def test_ec2_takes_the_nodes(rendered: Render) -> None:
    """Against the model of EC2's API that its own client carries."""
    botocore = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = botocore.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    profiles = {"instance_profile": "arn:aws:iam::1:head/x", "worker_instance_profile": "arn:aws:iam::1:worker/x"}
    changes = {f"providers.aws.{name}": arn for name, arn in profiles.items()}
    types = one(rendered("aws", changes | {"providers.aws.security_groups": ["sg-1"]}))["available_node_types"]
    assert {name: node["node_config"]["IamInstanceProfile"]["Arn"] for name, node in types.items()} == {
        "head": profiles["instance_profile"],
        "gpu": profiles["worker_instance_profile"],
        "decode": profiles["worker_instance_profile"],
    }
    for node in types.values():
        report = ParamValidator().validate({**node["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), report.generate_report()


def test_compute_engine_takes_the_nodes(rendered: Render) -> None:
    """Against the description of its API that Google's client carries; runs with the extra `cluster`."""
    client = pytest.importorskip("googleapiclient", reason="pip install 'vjepa-exp[cluster]' to check GCP's nodes")
    described = Path(client.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
    schemas = json.loads(described.read_text(encoding="utf-8"))["schemas"]
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    # Its references name a schema without saying where it stands.
    text = re.sub(r'"\$ref": "(\w+)"', r'"$ref": "#/schemas/\1"', json.dumps(schemas))
    root = {"$ref": "#/schemas/Instance", "schemas": json.loads(text)}
    account = {"providers.gcp.worker_service_account": "reader@my-project.iam.gserviceaccount.com"}
    types = one(rendered("gcp", account))["available_node_types"]
    assert [name for name, node in types.items() if "serviceAccounts" in node["node_config"]] == ["gpu", "decode"]
    for node in types.values():
        jsonschema.validate(node["node_config"], root)
        with pytest.raises(jsonschema.ValidationError, match="machineTyp"):
            jsonschema.validate({**node["node_config"], "machineTyp": "a2"}, root)


def test_what_has_to_be_told_to_the_head_is_in_no_worker(rendered: Render) -> None:
    config = one(rendered("aws"))
    assert any("ui --serve" in command for command in config["initialization_commands"])
    for name in ("gpu", "decode"):
        commands = config["available_node_types"][name]["initialization_commands"]
        assert any("mount -t nfs" in command for command in commands)
        assert not any("ui --serve" in command for command in commands)


def test_nothing_listens_for_everybody(rendered: Render) -> None:
    config = one(rendered("aws"))
    [start] = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    containers = [command for command in config["initialization_commands"] if "docker run" in command]
    published = [word for command in containers for previous, word in pairwise(command.split()) if previous == "-p"]
    assert published == ["127.0.0.1:5000:5000"]


def test_variables_arrive_as_they_were_written(rendered: Render) -> None:
    options = " ".join(one(rendered("gcp"))["docker"]["run_options"])
    words = shlex.split(options)
    assert 'GREETING=it\'s "me"' in words
    assert "NCCL_DEBUG=INFO" in words


def test_the_head_makes_the_passwords_once_and_for_itself(rendered: Render, tmp_path: Path) -> None:
    """The commands as a shell runs them, with docker and sudo written down instead of run."""
    for name in ("docker", "sudo"):
        fake = tmp_path / "bin" / name
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n[ "$2" != inspect ]\n')
        fake.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    config = one(rendered("aws"))
    commands = [c for c in config["initialization_commands"] if "mlflow" in c]
    folder, contents = tmp_path / ".mlflow", []
    for _ in range(2):
        for command in commands:
            subprocess.run(["bash", "-c", command], env=environment, check=True)
        contents.append({file.name: file.read_text() for file in folder.iterdir()})
    assert contents[0] == contents[1]
    values = {name: dict(line.split("=") for line in text.splitlines()) for name, text in contents[0].items()}
    assert {name: set(variables) for name, variables in values.items()} == {
        "postgres.env": {"POSTGRES_PASSWORD", "PGPASSWORD"},
        "server.env": {"MLFLOW_AUTH_ADMIN_PASSWORD"},
        "client.env": {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    }
    assert values["postgres.env"]["POSTGRES_PASSWORD"] == values["postgres.env"]["PGPASSWORD"]
    word = values["server.env"]["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert values["client.env"] == {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": word}
    secrets = {word, values["postgres.env"]["PGPASSWORD"]}
    assert [len(secret) for secret in secrets] == [48, 48], "two, and long"
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    calls = (tmp_path / "calls").read_text()
    assert not any(secret in calls for secret in secrets)
    [mlflow] = {line for line in calls.splitlines() if line.startswith("docker run") and " --name mlflow " in line}
    assert f"--env-file {folder}/postgres.env --env-file {folder}/server.env" in mlflow
    assert config["docker"]["head_run_options"] == ["--env-file ~/.mlflow/client.env"]


def test_mlflow_on_the_head_asks_for_a_password(rendered: Render) -> None:
    """Its command is parsed by the command line itself."""
    from vjepa_exp.cli import app

    [run] = [c for c in one(rendered("aws"))["initialization_commands"] if "vjepa-exp ui" in c]
    words = shlex.split(run.partition(" vjepa-exp ")[2])
    assert words[:2] == ["ui", "--serve"]
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    assert (
        one(rendered("aws", {"tracking": {"kind": "external", "uri": "http://m:5000"}}))["docker"]["head_run_options"]
        == []
    )


def test_compose_serves_a_team_behind_passwords_on_loopback(repo_root: Path) -> None:
    from vjepa_exp.cli import app

    file = yaml.safe_load((repo_root / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    services = file["services"]
    program, *words = services["mlflow"]["command"]
    assert (program, words[:2]) == ("vjepa-exp", ["ui", "--serve"])
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
    assert services["mlflow"]["ports"] == ["${MLFLOW_LISTEN:-127.0.0.1}:5000:5000"]
    assert "ports" not in services["postgres"]
    assert services["postgres"]["networks"] == ["database"]
    assert file["networks"]["database"] == {"internal": True}
    for service in services.values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or (value.startswith("${") and ":?" in value), "never a default"
