"""`cluster submit` and its companions, as far as they come without a cluster; tests/ray/test_jobs.py has one."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vjepa_exp.cli import main

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `vjepa-exp cluster`; its exit code and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)

    def _call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["cluster", *arguments])
        return int(stopped.value.code or 0), capsys.readouterr().err

    return _call


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["no-such-spec"], "no-such-spec: no such file"),
        (["table4_masking", "--profile", "labtop"], "Did you mean 'laptop'?"),
        (["table4_masking", "--set", "recipe.pretrain.optim.itertions=5"], "Did you mean 'iterations'?"),
        (["table4_masking", "--store", "runs"], "runs is not an absolute path: it is a place on the cluster"),
        (["table4_masking", "--datasets", "sets.yaml"], "sets.yaml is not an absolute path"),
        (["table4_masking", "--name", "a b"], "a job cannot be called 'a b': give letters, digits"),
        (["table4_masking", "--tracking", "http://me:secret@mlflow:5000"], "MLFLOW_TRACKING_PASSWORD"),
        (["quickstart", "--set", "execution.tracking_uri=http://me:secret@mlflow:5000"], "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_what_is_wrong_is_said_before_a_cluster_is_asked(call: Call, options: list[str], words: str) -> None:
    code, err = call("submit", *options, "--address", "http://127.0.0.1:9")
    assert code == 2
    [line] = err.splitlines()
    assert words in line
    assert "secret" not in line


@pytest.mark.ray
@pytest.mark.parametrize("what", [["submit", "quickstart"], ["status"], ["logs", "x"], ["stop", "x"]])
def test_a_dashboard_that_does_not_answer_is_one_line(call: Call, what: list[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        code, err = call(*what, "--address", address)
    assert code == 2
    [line] = err.splitlines()
    assert line.startswith(f"error: no Ray dashboard answers at {address} (Connection refused)")


@pytest.mark.ray
@pytest.mark.parametrize("address", ["auto", "127.0.0.1:8265", "ray://127.0.0.1:10001", "http://"])
def test_what_is_no_address_of_a_dashboard_is_one_line(call: Call, address: str) -> None:
    code, err = call("status", "--address", address)
    assert code == 2
    assert err.startswith(f"error: --address {address} is not the address of a Ray dashboard")


@pytest.mark.ray
def test_a_server_that_is_no_dashboard_is_one_line(call: Call, web: object) -> None:
    code, err = call("status", "--address", web.url)  # type: ignore[attr-defined]
    assert code == 2
    [line] = err.splitlines()
    assert line.startswith(f"error: the cluster at {web.url} refuses: ")  # type: ignore[attr-defined]


def test_a_wrong_spec_is_told_without_ray_and_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom vjepa_exp.cli import main\n"
        "try: main(['cluster', 'submit', 'table4_masking', '--profile', 'x'])\n"
        "except SystemExit: print(sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stderr
