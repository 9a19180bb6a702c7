"""Checks the shape of the source tree; run as `python -I .ci/check_layout.py [ROOT]`, before anything else.

A plain script without imports from the project, because the fault it looks for first stops pytest itself: an
`__init__.py` in platform/ makes that folder shadow Python's `platform` module for all that starts in the root.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE_ROOTS = ("platform", "models", "ablations", "experiments")
MAX_LINES = 500


def faults(root: Path) -> Iterator[str]:
    """Yields one line for each fault of the tree below `root`."""
    for name in SOURCE_ROOTS:
        for path in sorted((root / name).glob("*.py")):
            yield f"{path.relative_to(root)}: {name}/ is a source root, no package: no .py file directly in it"
    for path in sorted((root / "tests").rglob("__init__.py")):
        yield f"{path.relative_to(root)}: tests are collected without packages (--import-mode=importlib)"
    for folder in (*SOURCE_ROOTS, "tests", "benchmarks", ".ci"):
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MAX_LINES:
                yield f"{path.relative_to(root)}: {lines} lines (at most {MAX_LINES}): is it one thing?"


def main() -> None:
    """Prints the faults and exits with 1 where there are any."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(faults(root))
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
