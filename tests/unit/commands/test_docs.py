"""Every `vjepa-exp` command that a document shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.exceptions import Exit, TyperException
from typer.main import get_command

from vjepa_exp.cli import app

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(path.relative_to(ROOT) for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of the commands in blocks of shell, those inside the quotes of another command too."""
    for block in re.findall(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for inner in [words, *(shlex.split(word, comments=True) for word in words if "vjepa-exp " in word)]:
                if inner and inner[0].removeprefix("$ ").endswith("vjepa-exp"):
                    yield inner[1:]


def parse(arguments: list[str]) -> None:
    """Let the command line read its arguments without doing anything."""
    command, name = get_command(app), "vjepa-exp"
    while isinstance(command, TyperGroup) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in command.commands:
            raise TyperException(f"no command {name}")
        command = command.commands[name]
    with suppress(Exit):  # of --help
        command.make_context(name, arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_are_understood(document: Path) -> None:
    for arguments in commands((ROOT / document).read_text(encoding="utf-8")):
        try:
            parse(list(arguments))
        except TyperException as error:
            pytest.fail(f"{document}: vjepa-exp {shlex.join(arguments)}: {error}")


def test_what_is_not_understood_is_found() -> None:
    shown = "1. so\n   ```sh\n   vjepa-exp plan --nodes 3 a.yaml  # why\n   ray exec x 'vjepa-exp run \\\n a'\n   ```\n"
    [wrong, right] = commands(shown)
    assert right == ["run", "a"]
    parse(right)
    with pytest.raises(TyperException, match="--nodes"):
        parse(wrong)
    with pytest.raises(TyperException, match="no command simulate"):
        parse(["cluster", "simulate"])
