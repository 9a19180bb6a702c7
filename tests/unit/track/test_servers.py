"""MLflow servers as real processes: on SQLite, on PostgreSQL, killed in the middle of a run, on a bad line."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from vjepa_exp.track import mirror as mirror_module
from vjepa_exp.track.mirror import Mirror, attach

pytestmark = pytest.mark.slow
PATIENCE_S = 120


def wait_for(true: Callable[[], bool], what: str) -> None:
    patience = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < patience, what
        time.sleep(0.2)


@pytest.mark.parametrize("backend", ["server", "postgresql_server"])
def test_a_server_holds_all_of_a_study(study, backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = request.getfixturevalue(backend)
    study.begin(steps=20)
    tracker = study.tracker(server.uri)
    tracker.sync(study.finish(), {}, {}, ended=True)
    study.assert_whole(server.uri)
    (tmp_path / "report.md").write_text("a table")
    attach(tracker, [tmp_path / "report.md"], pytest.fail)
    assert study.tracker(server.uri).has_report()
    runs = study.runs(server.uri)
    history = study.client(server.uri).get_metric_history(runs[study.pretraining.id].info.run_id, "loss")
    assert sorted(metric.step for metric in history) == list(range(1, 21))
    tags = next(run for run in runs.values() if run.data.tags["kind"] == "study").data.tags
    assert tags["compare"].startswith(f"{server.uri}/#/compare-runs?")


def test_a_server_that_is_killed_in_the_middle_of_a_run_loses_nothing(
    study, server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "EVERY_S", 0.2)
    records, begun, lines = dict[str, Any](), {study.pretraining.fingerprint: time.time()}, list[str]()
    study.begin(steps=50)
    tracker = study.tracker(server.uri)
    mirror = Mirror([tracker], records, {}, begun, lines.append)
    mirror.start()
    try:
        wait_for(lambda: _steps(study, tracker, server.uri) == list(range(1, 51)), "the first steps arrive")
        server.kill()
        study.begin(steps=100)
        wait_for(lambda: bool(lines), "the loss of the server is told")
        assert "Connection refused" in lines[0]
        server.start()
        study.begin(steps=150)
        wait_for(lambda: _steps(study, tracker, server.uri) == list(range(1, 151)), "what was missed arrives")
        server.kill()
        records |= study.finish()
    finally:
        mirror.finish()
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "MLflow: not everything arrived; the same command sends the rest"
    ]

    server.start()
    later = Mirror([study.tracker(server.uri)], records, {}, {}, pytest.fail)
    later.start()
    later.finish()
    study.assert_whole(server.uri)
    assert _steps(study, tracker, server.uri) == list(range(1, 151))


def test_a_server_that_comes_back_before_the_end_is_told_of(study, server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "EVERY_S", 0.2)
    lines = list[str]()
    server.kill()
    mirror = Mirror([study.tracker(server.uri)], study.finish(), {}, {}, lines.append)
    mirror.start()
    try:
        wait_for(lambda: bool(lines), "the server is away")
        server.start()
    finally:
        mirror.finish()
    assert lines[1:] == ["MLflow can be used again, everything arrived"]
    study.assert_whole(server.uri)


def test_nothing_is_there_twice_where_every_answer_is_lost_once(study, server, lossy) -> None:
    study.begin(steps=20)
    records = study.finish()
    tracker = study.tracker(lossy.uri)
    while not tracker.up_to_date():
        seen = len(lossy.lost)
        try:
            tracker.sync(records, {}, {}, ended=True)
        except (MlflowException, OSError):
            assert len(lossy.lost) > seen, "only an answer that was lost makes it fail"
            tracker = study.tracker(lossy.uri)  # as a new process that knows what is in the store
    assert len(lossy.lost) > 50
    study.assert_whole(server.uri)
    assert _steps(study, tracker, server.uri) == list(range(1, 21))


def _steps(study, tracker, uri: str) -> list[int]:
    """Steps whose loss MLflow holds, in their order."""
    run_id = tracker.run_id(study.pretraining)
    if run_id is None:
        return []
    return sorted(metric.step for metric in study.client(uri).get_metric_history(run_id, "loss"))


class Lossy:
    """Passes requests on to a server, and loses the first answer to each that asks for a change.

    Attributes:
        uri: of this side.
        lost: the requests whose answer was lost.
    """

    def __init__(self, to: int) -> None:
        self.lost: set[tuple[str, str, str]] = set()
        lossy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                beyond = http.client.HTTPConnection("127.0.0.1", to, timeout=60)
                beyond.request(self.command, self.path, body, dict(self.headers))
                answer = beyond.getresponse()
                content = answer.read()
                key = (self.command, self.path, _without_times(body))
                if self.command != "GET" and not self.path.endswith("/search") and key not in lossy.lost:
                    lossy.lost.add(key)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.pass_on)
        self.proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.proxy.server_port}"


def _without_times(body: bytes) -> str:
    """What a request asks for, apart from the moment in which it is asked."""
    try:
        asked = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    if isinstance(asked, dict):
        asked = {key: value for key, value in asked.items() if key not in ("start_time", "end_time")}
    return json.dumps(asked)


@pytest.fixture
def lossy(server) -> Iterator[Lossy]:
    """A bad line to the server."""
    line = Lossy(server.port)
    thread = threading.Thread(target=line.proxy.serve_forever, daemon=True)
    thread.start()
    yield line
    line.proxy.shutdown()
    thread.join()
    line.proxy.server_close()
