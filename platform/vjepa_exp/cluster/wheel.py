"""The wheel of the code that runs here, as Ray's jobs want it.

Ray installs a wheel of a job with plain `pip install --target`, and keeps it by the name of its file. So ours asks for
nothing, since the nodes' image holds what the code needs and pip would fetch all of it once more, and its version ends
in a digest of its content, since Ray would take the first wheel of a name for every later one.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

NAME = "vjepa_exp"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file, for equal content to be an equal wheel."""


def build_wheel(folder: Path, packages: Mapping[str, Path], version: str) -> Path:
    """Write a wheel of pure Python.

    Args:
        folder: where it goes.
        packages: place in the wheel, such as 'vjepa_exp/_experiments' -> folder whose files go there.
        version: of the distribution; a digest of the content is added.

    Returns:
        Its path.
    """
    files = {
        f"{place}/{path.relative_to(source).as_posix()}": path.read_bytes()
        for place, source in packages.items()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    # With a letter before it: digits alone would lose the zeros that they begin with.
    exact = f"{version}{'.' if '+' in version else '+'}h{whole.hexdigest()[:8]}"
    info = f"{NAME}-{exact}.dist-info"
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: vjepa-exp\nVersion: {exact}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: vjepa-exp\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\nvjepa-exp = vjepa_exp.cli:main\n",
    }
    rows = [f"{name},{_record_hash(files[name])},{len(files[name])}" for name in sorted(files)]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{NAME}-{exact}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return path


def _record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
