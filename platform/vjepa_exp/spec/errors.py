"""Errors that a user can act on: what is wrong, where, and what to do. They never come with a traceback."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
"""What a full disk, a missing permission or a path that is too long raises: never a defect of the program."""


class UserError(Exception):
    """A mistake in the input or a condition of the machine that the user can mend; the CLI prints it and exits 2."""


def of_machine(error: BaseException, where: str = "a file") -> UserError | None:
    """The full disk, missing permission or overlong path behind an error, whatever was raised on top; None if none is.

    Args:
        error: what was raised.
        where: what to name if the error names no file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in MACHINE_ERRORS:
            return UserError(f"{cause.filename or where} cannot be written or read: {cause.strerror}")
        cause = cause.__cause__ or cause.__context__
    return None


@dataclass(frozen=True)
class Mark:
    """Where a value was written: a file and a 1-based line, or a command-line option (line 0)."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec."""

    mark: Mark
    path: str
    message: str

    def __str__(self) -> str:
        told = not self.path or self.mark.source.startswith(f"--set {self.path}=")
        where = "" if told else f" {self.path}:"
        return f"{self.mark}:{where} {self.message}"


class SpecError(UserError):
    """All problems of one spec at once, one line each, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.mark.source, p.mark.line)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
