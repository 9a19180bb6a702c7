from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vjepa_exp.spec.errors import SpecError
from vjepa_exp.spec.published import read_published_file


@pytest.fixture
def table4(repo_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(repo_root / "experiments" / "paper" / "table4.yaml", tmp_path))


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_numbers_are_read_as_they_are_printed(table4: Path) -> None:
    table = read_published_file(table4)
    assert (table.heading, table.rows[0].values) == ("Table 4", {"k400": 51.5, "ssv2": 46.4, "in1k": 55.6})


def test_a_number_edited_by_hand_is_named_with_its_line(table4: Path) -> None:
    edit(table4, "51.5", "61.5")
    line = next(i for i, text in enumerate(table4.read_text().splitlines(), start=1) if "61.5" in text)
    with pytest.raises(
        SpecError, match=rf"table4.yaml:{line}: rows.0.values: row 'tube' of Table 4: its numbers are not"
    ):
        read_published_file(table4)


def test_so_is_a_row_that_took_another_ones_numbers(table4: Path) -> None:
    with pytest.raises(SpecError, match="row 'tubes' of Table 4"):
        read_published_file(edit(table4, "id: tube\n", "id: tubes\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ssv2: 46.4", "ssv3: 46.4", "'ssv3', which is no column"),
        ("table: 4", "table: 5", "holds table5, by its name it should hold table4"),
        ("51.5", '"51.5"', "number"),
        ("    digest", "    uncertain: {k400: U99}\n    digest", "'U99', which is neither a repair nor a doubt"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(table4: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_published_file(edit(table4, old, new))


@pytest.mark.parametrize(
    ("figure", "old", "new", "message"),
    [
        (4, "x: samples_m", "x: samples", "plot: names 'samples', which is no column"),
        (4, "{x: samples_m, y", "{y", "give either 'x' or 'panels'"),
        (8, "{panel: c, x: 25", "{panel: d, x: 25", "rows.0.at:? must name a panel of the plot: a, b, c"),
        (8, '    at: {panel: c, x: 25, line: "100 % of the length"}\n', "", "rows.0.at:? must name a panel"),
    ],
)
def test_a_plot_that_does_not_fit_its_figure_is_refused(
    repo_root: Path, tmp_path: Path, figure: int, old: str, new: str, message: str
) -> None:
    path = Path(shutil.copy(repo_root / "experiments" / "paper" / f"figure{figure}.yaml", tmp_path))
    with pytest.raises(SpecError, match=message):
        read_published_file(edit(path, old, new))
