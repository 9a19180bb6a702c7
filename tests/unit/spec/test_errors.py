"""Errors of the machine are found below whatever was raised on top of them."""

from __future__ import annotations

import errno

import pytest

from vjepa_exp.spec.errors import of_machine


def raised(error: OSError, *, hidden: bool) -> Exception:
    """An error that another one hides, as libraries do."""
    try:
        try:
            raise error
        except OSError as inner:
            raise RuntimeError("a page of text") from (None if hidden else inner)
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("hidden", [True, False])
def test_a_full_disk_is_found_below_other_errors(hidden: bool) -> None:
    found = of_machine(raised(OSError(errno.ENOSPC, "No space left on device", "runs/x"), hidden=hidden))
    assert str(found) == "runs/x cannot be written or read: No space left on device"


def test_a_path_that_is_too_long_is_of_the_user() -> None:
    found = of_machine(raised(OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), hidden=False))
    assert str(found) == "xxx cannot be written or read: File name too long"


def test_other_errors_are_defects() -> None:
    assert of_machine(raised(FileNotFoundError(errno.ENOENT, "No such file", "x"), hidden=False)) is None
    assert of_machine(ValueError("x")) is None
