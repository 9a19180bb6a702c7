from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.removal import ListedSet, Removal, RemovalList, read_removals

HEAD = "# vjepa-exp removal list 1\n# from: k710 train abc\n# held by: k400 val def\n"


def written(folder: Path) -> RemovalList:
    removals = (
        Removal("a,b/ü 1.mp4", "exact", 0.0, "k400:val/x.mp4"),
        Removal("c.mp4", "similar", 0.04321, "ssv2:7.webm"),
    )
    sets = ListedSet("k710 at home", "train", "abc"), (ListedSet("k400", "val", "def"), ListedSet("ssv2", "val", "012"))
    made = RemovalList(*sets, removals, folder / "lists" / "k710.csv")
    made.write()
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = written(tmp_path)
    found = read_removals(made.file)
    assert replace(found, lines=()) == made
    assert found.lines == (7, 8)
    assert made.file.read_text().splitlines()[4:] == [
        "# made by: vjepa-exp data leaks 'k710 at home' k400 ssv2",
        "path,kind,distance,twin",
        '"a,b/ü 1.mp4",exact,0,k400:val/x.mp4',
        "c.mp4,similar,0.04321,ssv2:7.webm",
    ]


def test_a_list_by_hand_needs_nothing_but_paths(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEAD}# the second one was found by eye\npath\nb.mp4\na.mp4\n")
    found = read_removals(path)
    assert [removal.path for removal in found.removals] == ["a.mp4", "b.mp4"]
    assert found.lines == (7, 6)


def test_a_digest_is_of_what_is_left_out_of_what(tmp_path: Path) -> None:
    made = written(tmp_path)
    closer = made.removals[1]._replace(distance=0.01, twin="k400:y.mp4")
    same = replace(made, file=tmp_path / "elsewhere.csv", removals=(made.removals[0], closer), against=())
    assert same.digest == made.digest
    assert replace(made, removals=made.removals[:1]).digest != made.digest
    assert replace(made, source=ListedSet("k710", "train", "abd")).digest != made.digest


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("path\na.mp4\n", 1, "is no removal list"),
        ("", 1, "is no removal list"),
        ("# vjepa-exp removal list 1\npath\na.mp4\n", 2, "# from: NAME SPLIT DIGEST"),
        (HEAD.replace("train", "test") + "path\n", 2, "must say NAME SPLIT DIGEST"),
        (HEAD + "a.mp4\n", 4, "the columns path,kind,distance,twin are missing"),
        (HEAD + "path,kind\na.mp4,exact\n,exact\n", 6, "has no path"),
        (HEAD + "path,kind\na.mp4,exact\nb.mp4,\na.mp4,\n", 7, "a.mp4 stands on line 5 too"),
        (HEAD + "path,kind,distance\na.mp4,similar,near\n", 5, "'near' is no distance"),
    ],
)
def test_a_list_that_cannot_be_understood_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_removals(path)
    [problem] = caught.value.problems
    assert str(problem.mark) == f"{path}:{line}"
    assert words in problem.message


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"list\.csv: the removal list cannot be read: not a UTF-8 text file"):
        read_removals(path)
