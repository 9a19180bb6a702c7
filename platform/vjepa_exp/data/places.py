"""Where files lie: two paths of one file, over links or written in two ways, are told to be one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache

from vjepa_exp.data.remote import is_remote


def places(paths: Iterable[str]) -> Iterator[str]:
    """Absolute paths with their folders resolved, each folder once: millions of files lie in few. URIs stay."""
    real = cache(os.path.realpath)
    for path in paths:
        if is_remote(path):
            yield path
        else:
            folder, name = os.path.split(path)
            yield f"{real(folder)}/{name}"
