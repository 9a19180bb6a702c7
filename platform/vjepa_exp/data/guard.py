"""Work on files that may crash or hang a process: a child does it, and another child takes over when that happens.

A remote file is fetched before its child gets it: a slow network costs no file its time, and one that fails stops the
work, since nothing was learned of the file.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

from vjepa_exp.data.cache import Cache, current_cache, local, use_cache
from vjepa_exp.spec.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

# Not forked: the caller may run threads (Ray, MLflow), and a fork would copy their locks.
_spawn = get_context("spawn")
_ORPHAN_S = 60.0  # a child that hangs ends itself so long after its parent should have ended it
_NOTED_S = 5.0


@dataclass(frozen=True)
class Lost:
    """Why the work on one item has no result, in one line."""

    reason: str


class Each(Protocol):
    """Does the same work on many items."""

    def __call__(self, work: Callable[[T], R], items: Sequence[T], /) -> Iterator[tuple[int, R | Lost]]:
        """Results as they come, each with the number of its item."""


class Guard(Generic[T, R]):
    """A child process that does one kind of work, an item at a time."""

    def __init__(self, work: Callable[[T], R], deadline_s: float) -> None:
        """Nothing runs before the first call.

        Args:
            work: a function that a new process can import, or a partial of one; its results are pickled.
            deadline_s: how long one item may take.
        """
        self._work, self._deadline_s = work, deadline_s
        self._child: tuple[Any, Connection] | None = None
        self._closed = False
        self._lock = threading.Lock()  # of the two above

    def __call__(self, item: T) -> R | Lost:
        """The result, or why there is none: the work raised, its process died, or it did not come back in time.

        Raises:
            UserError: of the work, which no other item will escape, or because a remote file cannot be fetched.
        """
        with _at_hand(item):
            result = self._ask(item)
        if isinstance(result, UserError):
            raise result
        return result

    def _ask(self, item: T) -> R | Lost | UserError:
        child = self._child or self._start()
        with self._lock:
            self._child = child
        if self._closed:
            self._end()
            return Lost("it was stopped")
        process, pipe = child
        try:
            pipe.send(item)
            if pipe.poll(self._deadline_s):
                result: R | Lost | UserError = pipe.recv()
                return result
        except (EOFError, OSError):
            process.join()
            self._end()
            return Lost(f"its process died{_how(_exit_code(process))}")
        self._end()
        return Lost(f"its process did not come back in {self._deadline_s:.0f} s")

    def close(self) -> None:
        """End the child for good, whatever it does; another thread may be waiting for it."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            process, pipe = child
            process.kill()
            process.join()
            pipe.close()

    def _start(self) -> tuple[Any, Connection]:
        mine, theirs = _spawn.Pipe()
        process = _spawn.Process(
            target=_serve, args=(theirs, self._work, self._deadline_s, current_cache()), daemon=True
        )
        process.start()
        theirs.close()
        try:
            mine.recv()  # imports may take longer than an item is given
        except EOFError:
            process.join()
            raise RuntimeError(f"a process for {self._work} could not start{_how(_exit_code(process))}") from None
        return process, mine


@contextmanager
def _at_hand(item: object) -> Iterator[None]:
    """Hold a copy of a remote file, as its server has it now."""
    with ExitStack() as held:
        with suppress(FileNotFoundError):  # the work says it in its way
            if isinstance(item, str):
                held.enter_context(local(item, fresh=True))
        yield


def _serve(pipe: Connection, work: Callable[[Any], Any], deadline_s: float, cache: Cache) -> None:
    """The child: items in, results out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    use_cache(cache)
    pipe.send(None)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (os.devnull is a string)
        while True:
            try:
                item = pipe.recv()
                faulthandler.dump_traceback_later(deadline_s + _ORPHAN_S, exit=True, file=nowhere)
                pipe.send(_done(work, item))
            except (EOFError, BrokenPipeError):
                return
            faulthandler.cancel_dump_traceback_later()


def _done(work: Callable[[Any], Any], item: Any) -> Any:
    try:
        return work(item)
    except UserError as error:
        return error
    except Exception as error:  # noqa: BLE001 (one file of millions: its reason, not the end of all)
        lines = str(error).strip().splitlines()
        return Lost(f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__)


def _exit_code(process: Any) -> int | None:
    """That of a process which has ended.

    A thread that starts a child asks after all others, too; what it learns of this one it notes a moment later than
    this thread hears that there is nothing left to learn.
    """
    deadline = time.monotonic() + _NOTED_S
    code: int | None
    while (code := process.exitcode) is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return code


def _how(exitcode: int | None) -> str:
    return f" by {signal.Signals(-exitcode).name}" if exitcode is not None and exitcode < 0 else f" (exit {exitcode})"


def in_turn(work: Callable[[T], R], items: Sequence[T], /) -> Iterator[tuple[int, R | Lost]]:
    """Do the work in this process: for files that are known to be good."""
    return ((number, work(item)) for number, item in enumerate(items))


def each_locally(
    work: Callable[[T], R], items: Sequence[T], /, *, processes: int, deadline_s: float
) -> Iterator[tuple[int, R | Lost]]:
    """Do the work in children of this process; results as they come, each with the number of its item."""
    mine, guards = threading.local(), list[Guard[T, R]]()

    def run(item: T) -> R | Lost:
        if not hasattr(mine, "guard"):
            mine.guard = Guard(work, deadline_s)
            guards.append(mine.guard)
        guard: Guard[T, R] = mine.guard
        return guard(item)

    with ThreadPoolExecutor(min(processes, len(items)) or 1) as pool:
        numbers = {pool.submit(run, item): number for number, item in enumerate(items)}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for guard in guards:
                guard.close()


_kept: tuple[bytes, Guard[Any, Any]] | None = None


def kept_guard(work: Callable[[T], R], deadline_s: float) -> Guard[T, R]:
    """The guard of this process, the same one as long as it is asked for the same work."""
    global _kept
    key = pickle.dumps((work, deadline_s, current_cache()))
    if _kept is None or _kept[0] != key:
        if _kept is not None:
            _kept[1].close()
        _kept = (key, Guard(work, deadline_s))
    return _kept[1]
