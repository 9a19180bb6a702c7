"""Files that a spec names: whether they are there."""

from __future__ import annotations

import stat
from pathlib import Path

ABSENT = "does not exist"


def why_no_file(path: Path) -> str:
    """What is wrong with a path that a file is to be read from, as what follows its name; '' if nothing is."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:  # a name that is too long, no permission
        return f"cannot be read: {error.strerror}"
    except ValueError:  # a zero byte
        return "cannot be read: not a name of a file"
    if stat.S_ISREG(mode):
        return ""
    return "is a directory" if stat.S_ISDIR(mode) else "is no file"
