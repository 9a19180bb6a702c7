"""Creates .venv and installs the project with its pinned dependencies; `make setup` runs it.

Standard library only: it runs before anything is installed. It takes PyTorch's CPU build where no NVIDIA GPU is
present, because the default Linux build brings gigabytes of CUDA libraries that such a machine cannot use.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
SUPPORTED = ((3, 11), (3, 13))
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    """Makes the environment, or completes the one that is there."""
    check_interpreter(sys.version_info[:2], f"{sys.executable} is")
    python = VENV / "bin" / "python"
    if (VENV / "bin" / "pip").exists():  # venv writes it last: without it, the environment is half made
        version = output(python, "-c", "import sys; print(*sys.version_info[:2])")
        check_interpreter(tuple(map(int, version.split())), f"{VENV} was made with")
    else:
        create_venv()
    print("installing the pinned dependencies into .venv (about 400 MB on a machine without a GPU)", flush=True)
    # The build backend is pinned like everything else, hence it stands in the environment and builds unisolated.
    pip(python, "install", "--upgrade", *pinned("pip", "hatchling"))
    if wants_cpu_torch(python):
        install_cpu_torch(python)
    pip(python, "install", "-c", CONSTRAINTS, "--no-build-isolation", "--group", "dev", "-e", ROOT)


def check_interpreter(version: tuple[int, ...], what: str) -> None:
    """Stops with a line that says what to do where the interpreter is not supported."""
    low, high = SUPPORTED
    if not low <= version <= high:
        found, allowed = dotted(version), f"{dotted(low)} to {dotted(high)}"
        sys.exit(
            f"error: {what} Python {found}, and vjepa-exp needs {allowed}: "
            f"remove .venv if there is one and run `make setup PYTHON=python{dotted(high)}`"
        )


def create_venv() -> None:
    """Creates .venv; some Linux distributions ship `python3` without the module that puts pip into it."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        sys.exit(
            f"error: {sys.executable} cannot make a virtual environment because its ensurepip is missing: install "
            "your system's package for it (python3-venv on Debian and Ubuntu) and run the command again"
        )
    venv.create(VENV, with_pip=True)


def wants_cpu_torch(python: Path) -> bool:
    """True where pip by itself would take a CUDA build and no GPU is present to use it."""
    if sys.platform != "linux" or has_nvidia_gpu():
        return False
    planned = json.loads(
        output(python, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", *pinned("torch"))
    )["install"]
    return any("+cpu" not in item["metadata"]["version"] for item in planned)


def has_nvidia_gpu() -> bool:
    """True where the driver lists at least one device."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and b"GPU" in subprocess.run([tool, "-L"], capture_output=True, check=False).stdout


def install_cpu_torch(python: Path) -> None:
    """Installs the pinned PyTorch from its CPU index; where that cannot be reached, pip's default build follows."""
    source = ("--index-url", CPU_INDEX, "--timeout", "15", "--retries", "1")
    command = [python, "-m", "pip", "install", "--no-deps", *source, *pinned("torch")]
    if subprocess.run(command, check=False).returncode != 0:
        print(f"warning: no PyTorch CPU build from {CPU_INDEX}: taking pip's default build, which is larger")


def pinned(*names: str) -> list[str]:
    """The requirement `name==version` of each name, as constraints.txt has it."""
    text = CONSTRAINTS.read_text()
    return [re.search(rf"^{name}==[^\s;]+", text, re.MULTILINE)[0] for name in names]  # type: ignore[index]


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def pip(python: Path, *arguments: str | Path) -> None:
    """Runs pip in the environment; its own message says what went wrong, so this one only names the command."""
    progress = () if sys.stdout.isatty() else ("--quiet",)
    result = subprocess.run([python, "-m", "pip", *arguments, *progress], check=False)
    if result.returncode != 0:
        sys.exit(f"error: pip {arguments[0]} failed with exit status {result.returncode} (see its lines above)")


def output(*command: str | Path) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"error: `{' '.join(map(str, command))}` failed (see its lines above)")
    return result.stdout


if __name__ == "__main__":
    main()
