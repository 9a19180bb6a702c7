"""The paper's figures as plots: both sources in axes of their own, every value from the files, what is missing said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vjepa_exp.report.plots import Drawing, draw_plot
from vjepa_exp.report.points import our_side, paper_side
from vjepa_exp.report.published import read_published
from vjepa_exp.report.table import build_table
from vjepa_exp.spec.experiment import PaperReference
from vjepa_exp.spec.published import PublishedTable

REPEATED = ("recipe.evaluate.k400.seeds=[0, 1]",)
"""Two probes on each encoder: M17 sets the seed of its pretraining itself."""


def published(number: int) -> PublishedTable:
    table = read_published(PaperReference(figure=number))
    assert table is not None
    assert table.plot is not None
    return table


def by_masks(variant: str, column: str, seed: int, baseline: bool) -> float:
    """M01 scores 10 under seed 0, M26 35, and a point more under seed 1."""
    return 9.0 + int(variant[1:]) + seed


def marks(axes) -> dict[str, list[tuple[float, float]]]:
    """Label of a line -> its points; the lines of an earlier version have a white face."""
    drawn = {}
    for container in axes.containers:
        line = container.lines[0]
        label = container.get_label()
        name = (
            f"{'' if label.startswith('_') else label}{' (earlier)' if line.get_markerfacecolor() == 'white' else ''}"
        )
        drawn[name] = [(float(x), float(y)) for x, y in line.get_xydata()]
    return drawn


@pytest.fixture
def figure8(finish):
    """Figure 8 under two seeds; the probes of M05 failed."""
    failed = []

    def lost(stage) -> bool:
        return stage.fingerprint in failed

    probe = finish("figure8_masking.yaml", "smoke", by_masks, REPEATED).result
    failed += [cell.stage.fingerprint for cell in probe.plan.cells if cell.variant == "M05"]
    return finish("figure8_masking.yaml", "smoke", by_masks, REPEATED, failed=lost)


def test_figure_8_groups_the_settings_by_what_they_vary(figure8) -> None:
    table, paper = build_table(figure8.result), published(8)
    side = our_side(figure8.result, table, paper.plot, figure8.store)
    canvas = Drawing(table, paper, paper.plot, "smoke", timed=False).panels([paper_side(paper, paper.plot), side])
    above, below = canvas.axes[:3], canvas.axes[3:]
    assert [axes.get_title(loc="left")[:3] for axes in above] == ["(a)", "(b)", "(c)"]

    assert marks(below[1])[""] == [(1, 25.5), (2, 26.5), (4, 27.5), (8, 28.5), (16, 29.5)]
    whole = marks(below[2])["100 % of the length"]
    assert whole == [(25, 10.5), (50, 11.5), (75, 12.5), (90, 13.5)], "M05 failed and is no point"
    assert len(marks(below[2])["50 % of the length"]) == 5
    assert marks(below[0])["one of each"] == [(2, 35.5)]

    assert above[0].get_ylim()[0] < 4 < 55 < above[0].get_ylim()[1], "panels share the range of all their points"

    printed = {row.id: row.earlier["k400"] for row in paper.rows if row.earlier}
    assert marks(above[2])["75 % of the length (earlier)"] == [
        (x, printed[f"M{number:02}"]) for x, number in zip((25, 50, 75, 90, 95), range(6, 11), strict=True)
    ]
    assert marks(above[1]) == {}, "nothing of this panel is printed"


def test_bars_are_the_standard_deviation_over_seeds(figure8) -> None:
    side = our_side(figure8.result, build_table(figure8.result), published(8).plot, figure8.store)
    assert [point.sd for point in side.points] == pytest.approx([0.5**0.5] * 25)


def test_what_is_not_drawn_is_said_with_its_reason(figure8, tmp_path: Path) -> None:
    figure = draw_plot(figure8.result, build_table(figure8.result), figure8.store, tmp_path)
    assert figure is not None
    assert "Not drawn here: M05 (failed)." in figure.caption
    assert "Not drawn of the paper: M16 to M20, M24 to M26 (the paper prints no number)." in figure.caption
    assert "earlier version of the paper" in figure.caption
    assert "profile smoke" in figure.caption
    with Image.open(figure.path) as image:
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 2, "blank"


def test_figure_4_is_the_published_points_on_a_logarithmic_axis(finish, tmp_path: Path) -> None:
    study = finish("figure4_samples_seen.yaml", "smoke", lambda *_: 0.0)
    table, paper = build_table(study.result), published(4)
    side = our_side(study.result, table, paper.plot, study.store)
    assert side.points == ()
    canvas = Drawing(table, paper, paper.plot, "smoke", timed=False).plane([paper_side(paper, paper.plot)])
    (axes,) = canvas.axes
    assert axes.get_xscale() == "log"
    drawn = {point for points in marks(axes).values() for point in points}
    assert drawn == {(row.values["samples_m"], row.values["ssv2_ft"]) for row in paper.rows}
    assert [text.get_text() for text in canvas.legends[0].get_texts()] == [row.label for row in paper.rows]

    figure = draw_plot(study.result, table, study.store, tmp_path)
    assert figure is not None
    assert "V-JEPA ViT-L/16 (end-to-end fine-tuning is not built yet)" in figure.caption
    assert "Squares" not in figure.caption
    assert "VideoMAE ViT-L/16, Hiera Hiera-L (taken over" in figure.caption


def test_figure_5_takes_our_time_from_the_journals_and_draws_a_level_where_the_paper_prints_none(
    finish, tmp_path: Path
) -> None:
    study = finish("figure5_training_time.yaml", "smoke", lambda v, c, seed, b: 40.0 + seed, ("seeds=[0, 1, 2]",))
    table, paper = build_table(study.result), published(5)
    side = our_side(study.result, table, paper.plot, study.store)
    iterations = study.result.plan.variants[0].recipe.pretrain.optim.iterations
    # A step of the fixture's journals takes a second.
    assert {(point.label, point.y, point.sd) for point in side.points} == {
        (label, 41.0, 1.0) for label in ("V-JEPA ViT-H/16", "V-JEPA ViT-H/16_384")
    }
    assert [point.x for point in side.points] == pytest.approx([iterations / 3600] * 2)
    canvas = Drawing(table, paper, paper.plot, "smoke", timed=True).plane([paper_side(paper, paper.plot), side])
    left, right = canvas.axes
    assert marks(left) == {}
    assert {line.get_ydata()[0] for line in left.lines} == {row.values["ssv2"] for row in paper.rows}
    assert "not printed" in left.get_xlabel()
    assert "minutes" in right.get_xlabel()
    assert [x for points in marks(right).values() for x, _ in points] == pytest.approx([iterations / 60] * 2)

    figure = draw_plot(study.result, table, study.store, tmp_path)
    assert figure is not None
    assert "Dashed level (paper): pretraining time (hours) not given." in figure.caption
    assert "Circles" not in figure.caption
    assert "V-JEPA" not in figure.caption.partition("Not drawn")[2]


def test_under_the_papers_recipe_both_sources_share_the_axis_of_accuracies(finish) -> None:
    study = finish("figure5_training_time.yaml", "paper", lambda *_: 71.0)
    table, paper = build_table(study.result), published(5)
    sides = [paper_side(paper, paper.plot), our_side(study.result, table, paper.plot, study.store)]
    left, right = Drawing(table, paper, paper.plot, "paper", timed=True).plane(sides).axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_title(loc="left") == "published"


def test_a_table_has_no_plot(finish, tmp_path: Path) -> None:
    study = finish("table4_masking.yaml", "smoke", lambda *_: 40.0)
    assert draw_plot(study.result, build_table(study.result), study.store, tmp_path) is None
    assert list(tmp_path.glob("*.png")) == []
