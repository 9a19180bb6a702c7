"""Where the work on files is done."""

from __future__ import annotations

from vjepa_exp.runtime.files import RAY_FROM, EachFile


def test_a_few_files_do_not_start_ray_and_many_do() -> None:
    assert not EachFile().on_ray(RAY_FROM - 1)
    assert EachFile().on_ray(RAY_FROM)


def test_a_cluster_that_is_named_is_used_for_any_number() -> None:
    assert EachFile(address="ray://head:10001").on_ray(1)
    assert not EachFile(address="ray://head:10001").on_ray(0)


def test_a_few_files_are_done_here() -> None:
    assert sorted(EachFile()(abs, [-2, 3])) == [(0, 2), (1, 3)]


def test_nothing_to_do_needs_no_cluster() -> None:
    assert list(EachFile(address="ray://nowhere:1")(abs, [])) == []
