"""The page of a collection: every study with a link, how it stands, and what it says of the paper's orderings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vjepa_exp.report.overview import write_overview

MASKING = {"tube": 20.0, "causal6": 40.0, "causal12": 60.0, "multiblock": 80.0}


def test_studies_are_listed_with_links_and_standing(finish: Callable[..., Any], tmp_path: Path) -> None:
    masking = finish("table4_masking.yaml", "smoke", lambda variant, *_: MASKING[variant], covered=3000)
    pooling = finish("table3_pooling.yaml", "smoke", lambda *_: 50.0, failed=lambda stage: stage.kind == "probe")
    reports = [(masking.result, tmp_path / "reports/table4"), (pooling.result, tmp_path / "reports/table3")]
    page = write_overview(reports, "All <of> it", tmp_path / "reports/all", "vjepa-exp run 'all.yaml'")
    text = page.read_text(encoding="utf-8")
    rows = [re.sub(r"<[^>]+>", "|", row) for row in text.split("<tbody>")[1].split("</tr>")[:2]]
    done = [f"{len(one.result.records)} of {len(one.result.plan.stages)}" for one in (masking, pooling)]
    assert [cell for cell in rows[0].split("|") if cell.strip()] == [
        *("Table 4: masking strategies", "smoke", done[0], "18", "0", "0")
    ]
    assert done[1] in rows[1]
    assert len(pooling.result.failed) == 4
    assert "|4|" in rows[1]
    assert 'href="../table4/report.html"' in text
    assert "All &lt;of&gt; it" in text
    shared = {stage.fingerprint for one in (masking, pooling) for stage in one.result.plan.stages}
    assert f"of {len(shared)} stages are done" in text
