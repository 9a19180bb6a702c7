"""An MLflow server for a team: nobody without a password, no password where others read it, loopback unless asked."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

from vjepa_exp.cli import main
from vjepa_exp.spec.errors import UserError
from vjepa_exp.track.database import EXPERIMENT
from vjepa_exp.track.mirror import Mirror
from vjepa_exp.track.team import TeamServer, is_loopback

EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"
NEW_USER = "/api/2.0/mlflow/users/create"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: whoever reaches it could do anything: --serve asks for a password"),
        (["--host", "gpu-7.example.com"], "--serve asks for a password"),
        (["--database", "sqlite:///x.db"], "--database is for the server of a team: --serve"),
        (["--serve", "--database", "postgresql+psycopg2://me:secret@host/db"], "set PGPASSWORD"),
        (["--serve", "--host", "192.0.2.77"], "nothing can listen on 192.0.2.77"),
    ],
)
def test_what_would_let_everybody_in_is_refused(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "ui", *options)
    assert words in line
    assert "secret" not in line
    assert not (tmp_path / "runs").exists()


def test_a_port_that_is_taken_is_not_changed_for_another(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = TeamServer(tmp_path / "team", None, None, "127.0.0.1", port, ())
        with pytest.raises(UserError, match=rf"127\.0\.0\.1 port {port} \(Address already in use\)"):
            server.prepare()


def test_the_password_is_made_once_and_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    server = TeamServer(tmp_path / "team", None, None, "127.0.0.1", 0, ("mlflow.example.com",))
    words = []
    for _ in range(2):
        server.prepare()
        words.append(server.password_file.read_text())
    assert words[0] == words[1]
    assert len(words[0].strip()) >= 24
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for file in server.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert words[0].strip() not in " ".join(server.arguments())
    assert words[0].strip() not in (server.folder / "basic_auth.ini").read_text()
    server.password_file.chmod(0o640)
    with pytest.raises(UserError, match=r"others can read .*: chmod 600"):
        server.prepare()


def test_a_short_password_is_refused_before_the_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "short")
    with pytest.raises(UserError, match="MLFLOW_AUTH_ADMIN_PASSWORD is short"):
        TeamServer(tmp_path / "team", None, None, "127.0.0.1", 0, ()).prepare()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "")],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.slow
def test_only_who_knows_the_password_reads_and_writes(
    study: Any,
    team_server: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = team_server()
    word = server.password
    assert word not in server.output
    assert f"password: in {Path('runs/team/password')}" in server.output
    assert {one.laddr.ip for one in listening(server.process.pid)} == {"127.0.0.1"}
    assert not any(word in " ".join(one.cmdline()) for one in family(server.process.pid))

    assert server.ask(EXPERIMENTS) == 401
    assert server.ask(EXPERIMENTS, "admin", "wrong" * 5) == 401
    assert server.ask(EXPERIMENTS, "admin", word) == 200
    tracker = study.tracker(server.uri)
    sign_in(monkeypatch, "admin", "wrong" * 5)
    with pytest.raises(UserError, match="asks for a name and a password, or those it got are wrong: set MLFLOW_"):
        tracker.require()
    lines = list[str]()
    Mirror([tracker], {}, {}, {}, lines.append).finish()
    assert "asks for a name and a password" in lines[0], "as it would be told of a password that is changed meanwhile"
    assert "wrong" * 5 not in "".join(lines)
    capsys.readouterr()
    other = tmp_path / "other"
    line = refused(capsys, "run", str(tmp_path / "study.yaml"), "--store", str(other), "--tracking", server.uri)
    assert line.startswith(f"error: MLflow at {server.uri}: asks for a name and a password")
    assert not other.exists(), "it is told before any work is begun"

    sign_in(monkeypatch, "admin", word)
    study.tracker(server.uri).require()
    study.begin(steps=20)
    study.tracker(server.uri).sync(study.finish(), {}, {}, ended=True)
    study.assert_whole(server.uri)


@pytest.mark.slow
def test_a_team_shares_its_runs_on_postgresql(
    study: Any, team_server: Callable[..., Any], postgresql_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = team_server("--database", postgresql_uri, MLFLOW_AUTH_ADMIN_PASSWORD="a word of the administrator")
    word, theirs = first.password, "a word of a member of the team"
    for user in ("member", "stranger"):
        assert first.ask(NEW_USER, "admin", word, {"username": user, "password": theirs}) == 200
    sign_in(monkeypatch, "admin", word)
    study.tracker(first.uri).require()  # makes the experiment of all runs, which the member then writes into
    experiment = study.client(first.uri).get_experiment_by_name(EXPERIMENT).experiment_id
    get_app_client("basic-auth", first.uri).grant_user_permission("stranger", "experiment", experiment, "DENY")

    sign_in(monkeypatch, "stranger", theirs)
    with pytest.raises(UserError, match="this user may not write into the experiment 'vjepa-exp'"):
        study.tracker(first.uri).require()
    sign_in(monkeypatch, "member", theirs)
    study.tracker(first.uri).require()
    study.tracker(first.uri).sync(study.finish(), {}, {}, ended=True)
    study.assert_whole(first.uri)
    assert first.ask(NEW_USER, "member", theirs, {"username": "other", "password": theirs}) == 403

    first.stop()
    later = team_server("--database", postgresql_uri, MLFLOW_AUTH_ADMIN_PASSWORD="another word, which is too late")
    assert later.ask(EXPERIMENTS, "admin", word) == 200
    assert later.ask(EXPERIMENTS, "member", theirs) == 200
    assert later.ask(EXPERIMENTS, "admin", later.password) == 401


@pytest.mark.slow
def test_the_server_of_a_store_is_for_this_machine_alone(study: Any, team_server: Callable[..., Any]) -> None:
    study.tracker().sync(study.finish(), {}, {}, ended=True)
    server = team_server(serve=False)
    assert {one.laddr.ip for one in listening(server.process.pid)} == {"127.0.0.1"}
    assert server.ask(EXPERIMENTS) == 200


def test_a_server_that_is_away_is_no_reason_not_to_begin(study: Any) -> None:
    study.tracker("http://127.0.0.1:9").require()
    with pytest.raises(MlflowException):
        study.tracker("http://127.0.0.1:9").sync({}, {}, {})


def sign_in(monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    """Be this user of MLflow servers."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def listening(pid: int) -> list[Any]:
    """Sockets on which a process or one of its descendants waits for others."""
    found = (one for process in family(pid) for one in process.net_connections("inet"))
    return [one for one in found if one.status == psutil.CONN_LISTEN]
