"""An MLflow server for a team: MLflow's own `basic-auth` app, which asks everybody for a name and a password.

All that it needs to know lies in one folder that only its user can read. No password is in an argument of a process, in
a URI or in a message.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import stat
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vjepa_exp.spec.errors import UserError

ADMIN = "admin"
PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"
SHORTEST_PASSWORD = 12
"""MLflow's own rule."""
WORKERS = 2
PERMISSION = "EDIT"
"""Of every user on what others made, at least: the runs of all studies are in one experiment."""
REMEMBERED_S = 60
"""How long a worker remembers that a password was right: to check one takes a tenth of a second of computing."""
SECURE = {
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes of a gigabyte: nothing of ours asks for a job
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class TeamServer:
    """Where the server keeps things and where it listens.

    Attributes:
        folder: for its password, its settings, and for what is given no other place.
        database: SQLAlchemy's URI without a password; SQLite in the folder where None.
        artifacts: any URI that MLflow writes to; in the folder where None.
        host: interface to listen on.
        port: on which.
        names: host names by which browsers and clients may call it, besides this machine's own.
    """

    folder: Path
    database: str | None
    artifacts: str | None
    host: str
    port: int
    names: tuple[str, ...]

    @property
    def password_file(self) -> Path:
        """Where the administrator's first password is, if no variable gave it."""
        return self.folder / "password"

    @property
    def uri(self) -> str:
        """As this machine calls it."""
        everywhere = self.host in ("0.0.0.0", "::")
        return f"http://{'127.0.0.1' if everywhere else self.host}:{self.port}"

    def prepare(self) -> None:
        """Check what is asked for and write what the server reads; the first time, make a password.

        Raises:
            UserError: an option cannot be used, the port is taken, or a secret can be read by others.
        """
        if self.database and urlsplit(self.database).password:
            raise UserError(
                "--database: everybody on this machine could read the password in it: leave it out of the URI and set "
                "PGPASSWORD, or write it into ~/.pgpass"
            )
        given = os.environ.get(PASSWORD_VARIABLE)
        if given is not None and len(given) < SHORTEST_PASSWORD:
            raise UserError(f"{PASSWORD_VARIABLE} is short: MLflow wants {SHORTEST_PASSWORD} characters or more")
        _require_free(self.host, self.port)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if given is None:
                _make_password(self.password_file)
            self._write_settings()
        except OSError as error:
            raise UserError(f"{self.folder} cannot be used: {error.strerror}: {error.filename}") from None

    def arguments(self) -> list[str]:
        """Of `mlflow server`; the database is in its environment."""
        places = ["--artifacts-destination", self.artifacts or str(self.folder.resolve() / "artifacts")]
        address = ["--host", self.host, "--port", str(self.port), "--workers", str(WORKERS)]
        hosts = ["--allowed-hosts", ",".join(self._allowed())] if self.names else []
        return ["--app-name", "basic-auth", *places, *address, *hosts, "--uvicorn-opts", "--log-level warning"]

    def environment(self) -> dict[str, str]:
        """Of its processes, besides what the user has set."""
        given = os.environ.get(PASSWORD_VARIABLE) or self.password_file.read_text(encoding="utf-8").strip()
        return {
            "MLFLOW_BACKEND_STORE_URI": self._database("mlflow"),
            "MLFLOW_AUTH_CONFIG_PATH": str(self._settings),
            PASSWORD_VARIABLE: given,
            # Signs the form on which a browser makes a new user; one that was open has to be opened again.
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            **SECURE,
        }

    def _allowed(self) -> list[str]:
        both = [form for name in self.names for form in (name, f"{name}:*")]
        return [*both, "localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]

    def _database(self, name: str) -> str:
        return self.database or f"sqlite:///{self.folder.resolve() / name}.db"

    @property
    def _settings(self) -> Path:
        return self.folder.resolve() / "basic_auth.ini"

    def _write_settings(self) -> None:
        settings = ConfigParser(interpolation=None)
        settings["mlflow"] = {
            "default_permission": PERMISSION,
            "database_uri": self._database("users").replace("%", "%%"),  # MLflow reads it with interpolation
            "admin_username": ADMIN,
            "auth_cache_ttl_seconds": str(REMEMBERED_S),
        }
        with open(self._settings, "w", encoding="utf-8", opener=_private) as file:
            settings.write(file)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _make_password(file: Path) -> None:
    """Make one where there is none; whoever finds one that others can read has to say what it is worth."""
    if not file.exists():
        with open(file, "x", encoding="utf-8", opener=_private) as new:
            new.write(secrets.token_urlsafe(24) + "\n")
    elif stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise UserError(f"others can read {file}: chmod 600 {file}, and change the password if they did")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _require_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"nothing can listen on {host} port {port} ({reason}): choose another with --port") from None
