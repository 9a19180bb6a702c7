"""The table of a study: means over seeds, the paper's numbers beside ours, distances within one source."""

from __future__ import annotations

import pytest

from vjepa_exp.report.table import build_table
from vjepa_exp.report.words import doubt_note, score, score_note, unavailable_note

FOUR = {"tube": 20.0, "causal6": 30.0, "causal12": 40.0, "multiblock": 50.0}


def four(variant: str, column: str, seed: int, baseline: bool) -> float:
    return 10.0 if baseline else FOUR[variant] + (seed - 1)


def test_rows_and_published_numbers_of_table_4(finish) -> None:
    table = build_table(finish("table4_masking.yaml", "smoke", four, ("seeds=[0, 1, 2]",)).result)
    assert [row.label for row in table.rows] == [
        "random-tube[0.9]",
        "causal multi-block[6]",
        "causal multi-block[12]",
        "multi-block",
    ]
    assert [column.label for column in table.columns] == ["K400", "SSv2", "IN1K"]
    tube = table.rows[0].cells["k400"]
    assert tube.published == 51.5
    assert tube.ours.by_seed == {0: 19.0, 1: 20.0, 2: 21.0}
    assert (tube.ours.mean, tube.ours.sd) == (20.0, 1.0)


def test_other_scale_compares_within_one_source_only(finish) -> None:
    table = build_table(finish("table4_masking.yaml", "smoke", four, ("seeds=[0, 1, 2]",)).result)
    assert not table.same_scale
    assert table.reference == "multi-block"
    tube, best = table.rows[0].cells["k400"], table.rows[-1].cells["k400"]
    assert tube.published_gap.mean == pytest.approx(51.5 - 72.9)
    assert tube.our_gap == (pytest.approx(-30.0), 0.0)
    assert (best.published_gap, best.our_gap) == (None, None)


def test_paper_profile_is_compared_with_the_published_numbers(finish) -> None:
    table = build_table(finish("table4_masking.yaml", "paper", lambda *_: 60.0).result)
    assert table.same_scale
    assert table.rows[0].cells["k400"].our_gap == (pytest.approx(60.0 - 51.5), None)
    assert table.reference is None


def test_changed_recipe_is_another_scale(finish) -> None:
    changed = ("recipe.pretrain.optim.lr=1e-4",)
    assert not build_table(finish("table4_masking.yaml", "paper", lambda *_: 60.0, changed).result).same_scale


def test_execution_settings_do_not_change_the_scale(finish) -> None:
    changed = ("execution.workers=2",)
    assert build_table(finish("table4_masking.yaml", "paper", lambda *_: 60.0, changed).result).same_scale


def test_baseline_is_one_row_and_the_reference_without_a_paper(finish) -> None:
    table = build_table(finish("quickstart.yaml", "paper", lambda v, c, s, baseline: 15.0 if baseline else 40.0).result)
    assert [(row.label, row.baseline) for row in table.rows] == [("V-JEPA", False), ("random initialisation", True)]
    assert table.rows[0].cells["motion"].our_gap == (pytest.approx(25.0), None)
    assert table.published is None


def test_variants_share_one_baseline_row(finish) -> None:
    sets = ("baselines=[random_init]", "seeds=[0, 1]")
    table = build_table(finish("table4_masking.yaml", "smoke", four, sets).result)
    assert [row.label for row in table.rows if row.baseline] == ["random initialisation"]
    assert table.rows[-1].cells["ssv2"].ours.by_seed == {0: 10.0, 1: 10.0}


def test_failed_seed_is_left_out_of_the_mean_and_counted(finish) -> None:
    lost = []

    def first_probe(stage) -> bool:
        if stage.kind == "probe" and not lost:
            lost.append(stage)
        return stage in lost

    table = build_table(finish("table4_masking.yaml", "smoke", four, ("seeds=[0, 1, 2]",), first_probe).result)
    score = table.rows[0].cells["k400"].ours
    assert score.by_seed == {1: 20.0, 2: 21.0}
    assert score.failures == ("the worker died",)


def test_coverage_comes_from_the_records(finish) -> None:
    table = build_table(finish("table4_masking.yaml", "smoke", four, covered=30).result)
    assert (table.rows[0].cells["k400"].ours.covered, table.rows[0].cells["k400"].ours.videos) == (30, 32)


def test_gain_over_random_initialisation_is_taken_seed_by_seed(finish) -> None:
    def noisy(variant: str, column: str, seed: int, baseline: bool) -> float:
        return (20.0 if baseline else 32.0 + seed % 2) + 7 * seed

    table = build_table(finish("quickstart.yaml", "paper", noisy, ("seeds=[0, 1, 2]",)).result)
    cell = table.rows[0].cells["motion"]
    assert cell.ours.sd > 7
    assert cell.our_gap == (pytest.approx(12 + 1 / 3), pytest.approx(0.57735, abs=1e-4))


def test_gain_over_a_seed_that_failed_is_left_out(finish) -> None:
    study = finish(
        "quickstart.yaml",
        "paper",
        lambda variant, column, seed, baseline: 100.0 if seed == 0 else 10.0 if baseline else 13.0,
        ("seeds=[0, 1]",),
        failed=lambda stage: stage.kind == "probe" and "random_init-s0" in stage.id,
    )
    assert build_table(study.result).rows[0].cells["motion"].our_gap == (pytest.approx(3.0), None)


def test_chance_is_that_of_the_column(finish) -> None:
    assert [c.chance for c in build_table(finish("table4_masking.yaml", "smoke", four).result).columns] == [12.5] * 3
    lost = finish("quickstart.yaml", "paper", four, failed=lambda stage: True)
    assert [c.chance for c in build_table(lost.result).columns] == [None, None]


def test_what_nothing_can_yield_says_so_and_its_published_number_stays(finish) -> None:
    table = build_table(finish("table5_pixel_models.yaml", "smoke", lambda *_: 40.0).result)
    assert [row.id for row in table.rows] == ["omnimae_l", "videomae_l", "hiera_l", "vjepa_l"]
    assert [column.id for column in table.columns][-2:] == ["k400_ft", "ssv2_ft"]
    ours, theirs = table.rows[-1].cells, table.rows[0].cells
    assert ours["k400"].ours.by_seed == {234: 40.0}
    assert (ours["ava"].published, score(ours["ava"].ours)) == (25.6, "not available")
    assert ours["k400_ft"].ours.unavailable == "end-to-end fine-tuning is not built yet"
    assert (theirs["k400"].published, theirs["k400"].ours.unavailable) == (
        65.6,
        "models of others cannot be loaded yet",
    )
    assert theirs["k400_ft"].ours.unavailable.startswith("taken over from another paper")
    assert "end-to-end fine-tuning is not built yet (2 cells" in unavailable_note(table)


def test_a_mean_column_is_the_mean_of_the_row_seed_by_seed(finish) -> None:
    by_column = {"k400": 30.0, "ssv2": 40.0, "in1k": 50.0}
    study = finish("table2_data_mix.yaml", "smoke", lambda v, column, s, b: by_column[column] + s, ("seeds=[0, 1]",))
    cell = build_table(study.result).rows[0].cells["avg"]
    assert cell.published == 70.9
    assert cell.ours.by_seed == {0: 40.0, 1: 41.0}


def test_samples_seen_are_counted_from_the_recipe_of_what_was_trained(finish) -> None:
    row = build_table(finish("table16_samples.yaml", "paper", lambda *_: 0.0).result).rows[-1]
    assert (row.id, row.cells["samples_m"].published) == ("vjepa_h384", 210.0)
    assert row.cells["samples_m"].ours.mean == pytest.approx(216.0)


def test_splits_of_one_encoder_are_the_repeats_of_a_cell(finish) -> None:
    table = build_table(finish("table7_few_labels.yaml", "smoke", lambda v, c, seed, b: 50.0 + seed).result)
    cell = next(row for row in table.rows if row.id == "vjepa_h").cells["k400_5"]
    assert cell.ours.by_seed == {0: 50.0, 1: 51.0, 2: 52.0}
    assert (cell.ours.mean, cell.ours.sd) == (51.0, 1.0)


def test_doubts_about_the_paper_are_told(finish) -> None:
    assert "50.6 in Table 6" in doubt_note(build_table(finish("table13_image_models.yaml", "smoke", four).result))


def test_the_reference_is_the_best_of_the_rows_that_we_may_have(finish) -> None:
    done = finish("table6_frozen.yaml", "smoke", lambda *_: 50.0)  # DINOv2 is best, and nothing runs it yet
    table = build_table(done.result)
    assert table.reference is not None
    assert table.reference.startswith("V-JEPA")
    gaps = [cell.our_gap for row in table.rows for cell in row.cells.values()]
    assert any(gap is not None for gap in gaps)


def test_samples_are_no_scores(finish) -> None:
    figure = build_table(finish("figure4_samples_seen.yaml", "smoke", lambda *_: 50.0).result)
    assert not next(column for column in figure.columns if column.id == "samples_m").is_score
    assert all(row.cells["samples_m"].our_gap is None for row in figure.rows)
    samples = build_table(finish("table16_samples.yaml", "smoke", lambda *_: 50.0).result)
    assert (samples.reference, score_note(samples)) == (None, "")
    ours = [row.cells["samples_m"].ours for row in samples.rows]
    assert any(one is not None and one.by_seed and score(one).strip("0.") for one in ours)


def test_a_file_of_ones_own_that_names_a_table_is_not_the_papers_recipe(finish) -> None:
    own = "recipe.pretrain.optim.lr=1e-3"
    assert build_table(finish("table4_masking.yaml", "paper", lambda *_: 60.0).result).same_scale
    assert not build_table(finish("table4_masking.yaml", "paper", lambda *_: 60.0, (own,)).result).same_scale
    other = finish("quickstart.yaml", "paper", lambda *_: 60.0, ("paper={table: 4, row: multiblock}",))
    assert not build_table(other.result).same_scale
