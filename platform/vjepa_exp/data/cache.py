"""Copies of remote files on this machine's disk: whole, no more of them than a bound, shared by all its processes.

The caches of fsspec were looked at first. `simplecache` and `filecache` keep whole files too, but neither has a bound
on their size, and neither tells who reads a copy, so that nothing could be removed while decoders are at work. Two
processes that want one file both fetch it, `simplecache` into the very name under which a third finds it half full.
Their block caches hand out Python file objects, and decord wants a path. So fsspec fetches, and copies are kept here.

There is no daemon and no index. Locks of the kernel (flock) on the copies themselves say who uses them and end with
the process that holds them, however it ends:

- a copy is held with a shared lock while it is read; only a copy that can be locked alone is removed;
- a file is fetched into `NAME.SIZE.part`, locked alone; who else wants it waits for that lock, and a part without a
  lock is what a dead process left. It gets its name, by a rename, when it is whole and on the disk;
- the time of last change of a copy is that of its last use.

The folder must lie on a disk of this machine. What lies in it under other names than those that are given here is
somebody else's: it is neither counted nor removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from vjepa_exp.data.remote import Stat, fetch, is_remote, stat
from vjepa_exp.spec.errors import UserError, of_machine
from vjepa_exp.spec.execution import DEFAULT_CACHE_GIB, ExecutionSpec

AT_ONCE = 8
"""Files that one process fetches ahead at the same time."""
SLACK = 0.9
"""Share of the bound that is left filled when something has to go: looking through all copies is not for every file."""

_FOLDER, _LOCK, _PART = "vjepa-exp", "lock", ".part"
_COPIES = re.compile(r"[0-9a-f]{3}")
_COPY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}(\.[^.]*)?(\.(?P<coming>\d+)\.part)?", re.DOTALL)
"""Names of folders of copies, and of copies and parts in them."""


@dataclass(frozen=True)
class Cache:
    """A folder of copies.

    Attributes:
        folder: of each machine, in which `vjepa-exp` is made when it is needed; None: that of its user's caches.
        limit_bytes: all copies together, those on their way included. Only files that are in use at the same time can
            exceed it: they are not removed, and nobody waits for them.
    """

    folder: Path | None = None
    limit_bytes: int = int(DEFAULT_CACHE_GIB * 2**30)

    @staticmethod
    def of(execution: ExecutionSpec) -> Cache:
        """The cache that the settings of a run ask for."""
        folder = Path(execution.cache_dir) if execution.cache_dir else None
        return Cache(folder, int(execution.cache_gib * 2**30))

    @property
    def here(self) -> Path:
        """The folder of copies on this machine."""
        folder = self.folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return folder.expanduser() / _FOLDER

    def hold(self, uri: str, *, fresh: bool = False) -> Copy:
        """A whole copy that stays until it is closed.

        Args:
            uri: of the file.
            fresh: ask the server whether it still has what the copy is of.

        Raises:
            FileNotFoundError: the server says that it has no such file.
            UserError: it cannot be fetched, or not be kept.
        """
        try:
            while True:
                for path in [] if fresh else self._copies(uri):
                    if copy := _hold(path):
                        return copy
                expected = stat(uri)
                path = self._path(uri, expected.version)
                if copy := _hold(path) or self._fetch(uri, expected, path):
                    return copy
        except FileNotFoundError:
            raise
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise UserError(f"copies of remote files cannot be kept: {error.filename}: {error.strerror}") from None
        except OSError as error:
            raise of_machine(error, str(self.here)) or error from None

    def _path(self, uri: str, version: str) -> Path:
        folder, name, suffix = self._names(uri)
        return folder / f"{name}-{version[:16]}{suffix}"

    def _names(self, uri: str) -> tuple[Path, str, str]:
        """Folder of a copy, how its name begins, how it ends: readers go by the suffix."""
        digest = hashlib.sha256(uri.encode()).hexdigest()
        name = urlsplit(uri).path if uri.startswith("http") else uri
        return self.here / digest[:3], digest[3:35], os.path.splitext(name)[1].lower()  # noqa: PTH122

    def _copies(self, uri: str) -> list[Path]:
        """Whole copies of any version, the last used first."""
        folder, name, _ = self._names(uri)
        try:
            found = [one for one in os.listdir(folder) if one.startswith(name)]  # noqa: PTH208
            whole = [folder / one for one in found if (ours := _COPY.fullmatch(one)) and not ours["coming"]]
            return sorted(whole, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except FileNotFoundError:  # or one of them was removed just now
            return []

    def _fetch(self, uri: str, expected: Stat, path: Path) -> Copy | None:
        """A new copy; None where another process may have made it meanwhile."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{expected.size or 0}{_PART}")
        handle, held = os.open(part, os.O_RDWR | os.O_CREAT, 0o644), False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _same(handle, part):
                return None
            if path.exists():
                part.unlink()
                return None
            try:
                self._make_room(expected.size or 0)
                size = fetch(uri, expected, part)
                os.fsync(handle)
                if expected.size is None:
                    self._make_room(size)
                part.rename(path)
            except BaseException:
                part.unlink()
                raise
            fcntl.flock(handle, fcntl.LOCK_SH)
            for other in self._copies(uri):
                if other != path:
                    _remove(other)
            held = _same(handle, path)
        finally:
            if not held:
                os.close(handle)
        return Copy(path, handle) if held else None

    def _make_room(self, size: int) -> None:
        """Count a file that is coming; where that is too much, remove what was not used for longest."""
        handle = os.open(self.here / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            known = os.read(handle, 32)
            used = int(known) + size if known.isdigit() else None
            if used is None or used > self.limit_bytes:
                used = self._evict()
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(used).encode(), 0)
        finally:
            os.close(handle)

    def _evict(self) -> int:
        """Remove what has to go, and return the bytes that are left."""
        copies, used = [], 0
        for path, coming in self._all():
            status = None if coming is None or _remove(path) else _status(path)
            used += max(coming or 0, status.st_size) if status else 0
        for path, coming in self._all():  # after the parts: one that gets its name meanwhile is counted
            if coming is None and (status := _status(path)):
                copies.append((status.st_mtime_ns, status.st_size, path))
                used += status.st_size
        if used <= self.limit_bytes:
            return used
        for _, size, path in sorted(copies):
            if used <= self.limit_bytes * SLACK:
                break
            used -= size if _remove(path) else 0
        return used

    def _all(self) -> Iterator[tuple[Path, int | None]]:
        """Every copy, with None, and every part, with the bytes of its file."""
        with os.scandir(self.here) as folders:
            names = [one.path for one in folders if _COPIES.fullmatch(one.name) and one.is_dir(follow_symlinks=False)]
        for name in names:
            with os.scandir(name) as files:
                for file in files:
                    if (ours := _COPY.fullmatch(file.name)) and file.is_file(follow_symlinks=False):
                        yield Path(file.path), int(ours["coming"]) if ours["coming"] else None


class Copy:
    """A copy that is held."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = str(path)
        self._handle = handle

    def close(self) -> None:
        """Let it go."""
        os.close(self._handle)


def _hold(path: Path) -> Copy | None:
    """The copy at a path, None if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if not _same(handle, path):
        os.close(handle)
        return None
    os.utime(handle)
    return Copy(path, handle)


def _remove(path: Path) -> bool:
    """Remove a copy or a part unless somebody holds it; whether it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same(handle, path):
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _same(handle: int, path: Path) -> bool:
    """Whether an open file still has this name: it may have been removed or renamed before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # renamed or removed just now
        return None


DEFAULT_CACHE = Cache()

_cache = DEFAULT_CACHE
_coming: ContextVar[Mapping[str, Future[Copy]]] = ContextVar("_coming", default=MappingProxyType({}))


def use_cache(cache: Cache) -> None:
    """Where this process keeps copies from now on."""
    global _cache  # one to a process, as its decoders are
    _cache = cache


def current_cache() -> Cache:
    """Where this process keeps copies."""
    return _cache


@contextmanager
def local(path: str, *, fresh: bool = False) -> Iterator[str]:
    """A path of this machine with the content of a file, for as long as the block runs; a local file is that itself.

    Args:
        path: of a local file, or a URI.
        fresh: ask the server whether it still has what a copy is of.

    Raises:
        FileNotFoundError: the server says that it has no such file.
        UserError: it cannot be fetched, or not be kept.
    """
    if not is_remote(path):
        yield path
    elif (coming := _coming.get().get(path)) is not None:
        yield coming.result().path
    else:
        copy = current_cache().hold(path, fresh=fresh)
        try:
            yield copy.path
        finally:
            copy.close()


@contextmanager
def fetching(paths: Sequence[str]) -> Iterator[None]:
    """Fetch files at the same time while the block runs through them with `local`, in any order."""
    wanted = [path for path in dict.fromkeys(paths) if is_remote(path)]
    hold = current_cache().hold
    coming = {path: _pool().submit(hold, path) for path in wanted}
    before = _coming.set(coming)
    try:
        yield
    finally:
        _coming.reset(before)
        for future in coming.values():
            if not future.cancel() and future.exception() is None:
                future.result().close()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
