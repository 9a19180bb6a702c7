"""Files of object stores and web servers by URI, through fsspec: listed, described and fetched.

A server that says that a file is not there has said something about the file. Everything else that goes wrong on the
way says something about the network or the rights of this machine: it is tried again, then it stops the work, and it
never makes a video unreadable. A clip that is left out because a connection broke would be another experiment.

Credentials and endpoints are those that the libraries find on each machine (AWS_*, GOOGLE_APPLICATION_CREDENTIALS,
roles of instances, FSSPEC_S3_ENDPOINT_URL ...); no spec holds them. Keeping what was fetched is not done here but in
`cache`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import walk_tb
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from vjepa_exp.spec.errors import UserError

T = TypeVar("T")

LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
"""Scheme -> what fsspec needs for it."""
CREDENTIALS = {
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID, the role of the instance",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login, the account of the instance",
}
"""Scheme -> where its library looks for them, in this order."""
PAUSES_S = (0.5, 2.0, 8.0, 30.0)
"""Between the attempts on one file; the libraries make some of their own within each."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ERRORS_OF = {"aiohttp", "botocore", "aiobotocore", "s3fs", "gcsfs", "google", "fsspec"}
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "Last-Modified")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_ONCE_MORE = {408, 425, 429}  # of the statuses below 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """A folder of a store; joined and printed as a `Path` is.

    Attributes:
        uri: without a last slash.
    """

    uri: str

    def __truediv__(self, path: str) -> Remote:
        """What lies below it, '/' between folders."""
        return Remote(f"{self.uri}/{quote(path) if _web(self.uri) else path}")

    def __str__(self) -> str:
        return self.uri


Root = Path | Remote


class Stat(NamedTuple):
    """What a server says of a file."""

    size: int | None
    """Bytes, if it tells."""
    version: str
    """Differs when the file does, as far as the server tells."""


def is_remote(path: str) -> bool:
    """Whether this is a URI and no path of this machine."""
    return _SCHEME.match(path) is not None


def place(text: str) -> Root:
    """A folder or file by the name that a user gives it.

    Raises:
        UserError: a URI of a kind that is not read.
    """
    if not is_remote(text):
        return Path(text)
    _scheme(text)
    return Remote(text.rstrip("/"))


def join(root: Root, path: str) -> str:
    """Where a file of a listing lies: `path` counts from the root unless it is absolute or a URI."""
    return path if is_remote(path) else str(root / path)


def require(root: Root) -> None:
    """Make sure that the library for a root is there; nothing is asked of a server.

    Raises:
        UserError: it is not.
    """
    if isinstance(root, Remote):
        _filesystem(_scheme(root.uri))


def stat(uri: str) -> Stat:
    """Ask the server what it has.

    Raises:
        FileNotFoundError: the server says that it has no such file.
        UserError: it cannot be asked.
    """
    return _trying(uri, lambda system, path: _stat(system, path))


def fetch(uri: str, expected: Stat, to: Path) -> int:
    """Write a file to a path that exists, and return its size in bytes.

    Raises:
        FileNotFoundError: the server says that it has no such file.
        UserError: it did not arrive whole, as `expected`, in any of the attempts.
    """

    def attempt(system: Any, path: str) -> int:
        # What a library does to the name of a file that did not arrive is its own affair (gcsfs removes it); the file
        # itself is locked by who waits for it. So it gets a name that leads there.
        with TemporaryDirectory() as folder:
            name = Path(folder, "file")
            name.symlink_to(to.absolute())
            system.get_file(path, str(name))
        size = to.stat().st_size
        if expected.size not in (None, size):
            raise ConnectionError(f"{size} of {expected.size} bytes arrived")
        if _stat(system, path) != expected:
            raise ConnectionError("it changed while it was read")
        return size

    return _trying(uri, attempt)


def below(folder: Remote) -> list[str]:
    """All files below a folder, relative to it, in the order in which a walk by names meets them.

    Raises:
        UserError: it cannot be listed.
    """

    def attempt(system: Any, path: str) -> list[str]:
        _require_bucket(system, folder.uri, path)
        start = path.rstrip("/") + "/"
        found = system.find(start if _web(folder.uri) else path)
        names = (name.removeprefix(start) for name in found if name.startswith(start))
        return [unquote(name) for name in names] if _web(folder.uri) else list(names)

    try:
        return sorted(_trying(folder.uri, attempt), key=lambda name: name.split("/"))
    except FileNotFoundError:
        raise UserError(f"{folder} does not exist, or its server does not list it") from None


def _stat(system: Any, path: str) -> Stat:
    info = system.info(path)
    if info.get("type") == "directory":
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    told = [str(info.get(name, "")) for name in _VERSIONS]
    size = info.get("size")
    return Stat(size, hashlib.sha256("\n".join([str(size), *told]).encode()).hexdigest())


def _trying(uri: str, action: Callable[[Any, str], T]) -> T:
    """The result of an action on (file system, path in it), after some attempts where the network fails."""
    system = _filesystem(_scheme(uri))
    path = system._strip_protocol(uri)
    for number, pause in enumerate((*PAUSES_S, None), 1):
        try:
            return _asking(system, uri, path, action)
        except Exception as error:
            if not _of_storage(error):
                raise
            if isinstance(error, OSError) and error.errno in _DISK:
                raise UserError(f"no copy of {uri} can be kept here: {error.strerror}") from error
            if _missing(error):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri) from error
            if (refused := _refused(error)) or pause is None:
                times = "" if refused else f", {number} times in a row"
                raise UserError(f"{uri} cannot be read{times}: {_line(error)}{_advice(error, uri)}") from error
            log.warning("%s: %s; trying again in %g s", uri, _line(error), pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _asking(system: Any, uri: str, path: str, action: Callable[[Any, str], T]) -> T:
    try:
        return action(system, path)
    except FileNotFoundError as error:
        if _missing(error):
            _require_bucket(system, uri, path)
        raise


def _require_bucket(system: Any, uri: str, path: str) -> None:
    """A bucket that does not exist is a mistake in the name and not a set of missing files."""
    if _web(uri):
        return
    bucket = path.partition("/")[0]
    try:
        system.info(bucket)
    except FileNotFoundError:
        raise UserError(f"bucket {_scheme(uri)}://{bucket} does not exist, or this machine may not see it") from None
    except Exception as error:
        if not _refused(error):  # who may read its files need not be allowed to describe it
            raise


def _of_storage(error: Exception) -> bool:
    """Whether this comes from the store or the way to it, and not from a defect of a program."""
    return (
        isinstance(error, OSError | EOFError) or type(error).__module__.partition(".")[0] in _ERRORS_OF or _said(error)
    )


def _said(error: Exception) -> bool:
    """Whether Google refused in a way that gcsfs raises as a ValueError: a payer is missing, an argument is invalid."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return isinstance(error, ValueError) and frames[-1].f_globals["__name__"].startswith("gcsfs.")


def _missing(error: Exception) -> bool:
    """Whether the server said so: fsspec's HTTP calls a file missing, too, when no server answered."""
    if not isinstance(error, FileNotFoundError):
        return False
    cause = error.__cause__
    return cause is None or hasattr(cause, "response") or getattr(cause, "status", None) in (404, 410)


def _refused(error: Exception) -> bool:
    """Whether another attempt will end alike: rights, credentials, a request that is wrong."""
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status not in _ONCE_MORE
    return isinstance(error, PermissionError) or "Credential" in type(error).__name__ or _said(error)


def _status(error: Exception) -> int | None:
    """Of the answer of a server, if it gave one."""
    if isinstance(error, OSError) and str(error).startswith("Forbidden: "):
        return 403  # gcsfs says it in no other way
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    status = getattr(cause, "status", None) if hasattr(cause, "status") else getattr(cause, "code", None)
    return int(status) if isinstance(status, int) else None


def _advice(error: Exception, uri: str) -> str:
    """What to do about a refusal."""
    scheme = "gs" if _scheme(uri) == "gcs" else _scheme(uri)
    if "requester pays" in str(error):
        return f" (FSSPEC_{scheme.upper()}_REQUESTER_PAYS names the project that pays)"
    wrong = isinstance(error, PermissionError) or "Credential" in type(error).__name__ or _status(error) in (401, 403)
    return f" (credentials are looked for in: {CREDENTIALS[scheme]})" if wrong and scheme in CREDENTIALS else ""


def _line(error: Exception) -> str:
    """The cause in one line."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    words = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {words[:200]}" if words else type(cause).__name__


def _web(uri: str) -> bool:
    return _scheme(uri) in ("http", "https")


def _scheme(uri: str) -> str:
    found = _SCHEME.match(uri)
    scheme = found[1].lower() if found else ""
    if scheme not in LIBRARIES:
        raise UserError(f"{uri}: only local paths, {', '.join(f'{name}://' for name in LIBRARIES)} are read")
    return scheme


@cache
def _filesystem(scheme: str) -> Any:
    """One for all threads, so that they share its connections."""
    import fsspec  # a tenth of a second, for those who need it

    if scheme in ("gs", "gcs"):
        # Else it asks by gRPC, before each request, what kind a bucket is: only zonal ones cannot do without.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        for name in ("gcsfs", "google.auth"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are told by us, in a line
    try:
        return fsspec.filesystem(scheme, **_options(scheme))
    except ImportError:
        needed = f"pip install 'vjepa-exp[remote]', or {LIBRARIES[scheme]} alone"
        raise UserError(f"{scheme}:// needs {LIBRARIES[scheme]}, which is not installed here: {needed}") from None
    except Exception as error:  # gcsfs looks for its credentials at once
        if not _of_storage(error):
            raise
        raise UserError(f"{scheme}:// cannot be read: {_line(error)}{_advice(error, f'{scheme}://')}") from error


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        return {"use_listings_cache": False}
    import aiohttp

    # By default the limit is on the whole of a file, whatever its size, or there is none; what must not happen is that
    # nothing comes.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    if scheme in ("gs", "gcs"):
        return {"use_listings_cache": False, "requests_timeout": patience}
    return {
        "use_listings_cache": False,
        "client_kwargs": {"timeout": patience},
        "headers": {"Accept-Encoding": "identity"},
    }
