"""A plan on the terminal, as a drawing and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from vjepa_exp.commands.console import columns, console, prose
from vjepa_exp.commands.planned import Planned, PlannedStage, plan_all
from vjepa_exp.commands.plans import amount, time_estimate
from vjepa_exp.commands.studies import Request
from vjepa_exp.commands.study import Study, introduce
from vjepa_exp.graph.cost import DECODING, StageCost
from vjepa_exp.graph.joint import kind_of_work
from vjepa_exp.report.words import roughly

Range = tuple[float, float]


def plan(specs: Sequence[str], request: Request, store: Path, *, as_json: bool, graph: bool) -> None:
    """Print what `run` would do for these experiments."""
    planned, out = plan_all(specs, request, store), console()
    if as_json:
        print_json(plan_json(planned), out)
    else:
        print_plan(planned, out, graph=graph)


def print_json(data: dict[str, object], out: Console) -> None:
    """Print a plan as JSON."""
    out.print(json.dumps(data, indent=2, ensure_ascii=False), soft_wrap=True)


def print_plan(planned: Planned, out: Console, *, graph: bool) -> None:
    """Print a plan in words, its stages as a table or as a tree."""
    _introduce(planned, out)
    if graph:
        out.print(_tree(planned))
    else:
        out.file.write(f"{_stages(planned)}\n")
    _sums(planned, out)
    lists = {digest: removals for study in planned.studies for digest, removals in study.plan.removals.items()}
    for removals in lists.values():
        text = f"left out: {len(removals.removals)} videos of {removals.source.name}, listed in {removals.file}"
        out.print(text, soft_wrap=True)
    for name in planned.joint.missing_datasets:
        out.print(f"missing: {planned.studies[0].registry.missing(name)}", soft_wrap=True)


def _introduce(planned: Planned, out: Console) -> None:
    if len(planned.studies) == 1:
        introduce(planned.studies, out)
        return
    rows = [
        (_short(study), study.resolved.experiment.title, study.resolved.profile_name, *map(str, _num_cells(study)))
        for study in planned.studies
    ]
    out.file.write(f"{columns(('', 'experiment', 'profile', 'cells', 'not available'), rows, right=(3, 4))}\n")
    for file in planned.left_out:
        out.print(f"left out, as it has no profiles and runs as it stands: {file}", soft_wrap=True)
    out.print()


def _short(study: Study) -> str:
    paper = study.resolved.experiment.paper
    return paper.short if paper else ""


def _num_cells(study: Study) -> tuple[int, int]:
    plan = study.plan
    own = {(cell.variant, cell.column, cell.baseline) for cell in plan.cells}
    return len(own), len({(gap.variant, gap.column) for gap in plan.gaps})


def _stages(planned: Planned) -> str:
    several = len(planned.studies) > 1
    rows = []
    for row in planned.stages:
        purpose = f"{' '.join(row.serves)}  {row.purpose}".strip() if several else row.purpose
        rows.append((row.stage.id, purpose, row.state, *_cost_words(row)))
    header = (
        *("stage", "for", "state", "parameters", "tokens/clip", "forward", "backward", "FLOPs"),
        *("memory", "decoded", "CPU cores", "time"),
    )
    return columns(header, rows, right=range(3, len(header)))


def _cost_words(row: PlannedStage) -> tuple[str, ...]:
    cost = row.cost
    if cost is None:
        return ("",) * 9
    too_large = " !" if row.too_large else ""
    return (
        amount(cost.parameters),
        str(cost.tokens_per_clip),
        amount(cost.forward_flops),
        amount(cost.backward_flops),
        "?" if cost.total_flops is None else amount(cost.total_flops),
        f"{amount(cost.memory_bytes)}B{too_large}",
        "?" if cost.decoded_bytes is None else f"{amount(cost.decoded_bytes)}B",
        _span(row.cores, lambda value: f"{max(1, value):.0f}"),
        _span(row.hours, lambda value: roughly(max(1, 3600 * value))),
    )


def _span(span: Range | None, words: Callable[[float], str]) -> str:
    if span is None:
        return "?"
    low, high = (words(value) for value in span)
    return low if low == high else f"{low} - {high}"


def _sums(planned: Planned, out: Console) -> None:
    cells, gaps = (sum(column) for column in zip(*map(_num_cells, planned.studies), strict=True))
    done = sum(row.in_store for row in planned.stages)
    can = len(planned.stages) - len(planned.not_available)
    out.print(f"{can} stages, {done} in the store, {cells} cells of the table{'s' if len(planned.studies) > 1 else ''}")
    if len(planned.studies) > 1:
        prose(out, f"each once: {_counts(planned)}")
    if planned.not_available or gaps:
        prose(out, f"not available: {gaps} cells, {len(planned.not_available)} stages ({_reasons(planned)})")
    known = [row.cost for row in planned.to_do if row.cost is not None]
    if known:
        riding = sum(cost.clips == 0 for cost in known)
        shared = f"; {riding} probes share the pass of the one above them" if riding else ""
        prose(out, f"to do: {_amounts(known)}{shared}")
    if len(planned.studies) == 1:
        study = planned.studies[0]
        to_do = [stage for stage in study.plan.stages if study.store.record(stage) is None]
        prose(out, time_estimate(to_do, study.resolved.experiment.execution, study.registry, study.machine))
    elif planned.to_do:
        prose(out, _time(planned.to_do))
    prose(out, f"CPU cores keep the devices fed; assumed: {DECODING}. {_memory_words(planned)}")
    for line in _costs(planned.to_do):
        prose(out, line)
    large = [row for row in planned.to_do if row.too_large]
    if large:
        prose(
            out,
            f"!: {len(large)} stages need more than a device has: set execution.micro_batch lower, "
            "execution.activation_checkpointing, or execution.parallel=fsdp with several workers",
        )


def _costs(rows: Sequence[PlannedStage]) -> Iterator[str]:
    """What it costs, a line for each price of a device."""
    asked = {(row.execution.price, row.execution.currency) for row in rows if row.price is not None}
    for price, currency in sorted(asked, key=str):
        same = [row for row in rows if (row.execution.price, row.execution.currency) == (price, currency)]
        low, high = (sum(column) for column in zip(*(row.price for row in same if row.price), strict=True))
        yield f"cost: {low:,.0f} to {high:,.0f} {currency}, at {price:g} a device and hour"


def _memory_words(planned: Planned) -> str:
    """What the memory of the stages means, and what the execution of the pretrainings does to it."""
    executions = [row.execution for row in planned.stages if row.stage.kind == "pretrain"]
    slices = sorted({execution.slices for execution in executions} - {1})
    words = "Memory is the peak of one device's micro-batch"
    if slices:
        words += (
            f"; of pretraining a slice of weights and moments on each of {', '.join(map(str, slices))} devices (fsdp)"
        )
    if any(execution.activation_checkpointing for execution in executions):
        words += "; blocks keep their inputs and are computed again, counted as backward (activation checkpointing)"
    return f"{words}."


def _counts(planned: Planned) -> str:
    counts = planned.joint.counts()
    words = [f"{count} {kind}" for kind, count in counts.items()]
    pretraining = [row for row in planned.stages if row.stage.kind == "pretrain"]
    tables = sum(any(name.startswith("T") for name in row.serves) for row in pretraining)
    if pretraining and tables not in (0, len(pretraining)):
        words[words.index(f"{len(pretraining)} pretraining")] += (
            f" ({tables} for tables, {len(pretraining) - tables} others)"
        )
    return ", ".join(words)


def _reasons(planned: Planned) -> str:
    reasons = Counter(gap.reason for plan in planned.joint.plans for gap in plan.gaps)
    return "; ".join(reasons)


def _amounts(costs: Sequence[StageCost]) -> str:
    flops = sum(cost.total_flops or 0 for cost in costs)
    decoded, clips = sum(cost.decoded_bytes or 0 for cost in costs), sum(cost.clips or 0 for cost in costs)
    return f"{amount(flops)} FLOPs, {amount(clips)} clips, {amount(decoded)}B decoded"


def _time(rows: Iterable[PlannedStage]) -> str:
    """Hours one stage after another, and device-hours, by the device that they are stated for."""
    parts = []
    devices = dict.fromkeys((row.device[0].name, row.device[0].assumption, row.device[1]) for row in rows)
    for name, assumption, count in devices:
        spans = [row.hours for row in rows if (row.device[0].name, row.device[1]) == (name, count)]
        known = [span for span in spans if span is not None]
        low, high = (sum(column) for column in zip(*known, strict=True)) if known else (0.0, 0.0)
        parts.append(
            f"about {roughly(3600 * low)} to {roughly(3600 * high)} on {count} x {name}, one stage after another "
            f"({low * count:,.0f} to {high * count:,.0f} device-hours), assuming {assumption}"
        )
    return "; ".join(parts)


def _tree(planned: Planned) -> Tree:
    """Encoders with what stands on them, equal evaluations of several encoders in their own branch."""
    tree = Tree(Text(f"{len(planned.stages)} stages"))
    branches = {row.stage.fingerprint: tree.add(_leaf(row)) for row in planned.stages if row.stage.level < 2}
    others: dict[str, Tree] = {}
    for row in planned.stages:
        if row.stage.level < 2:
            continue
        encoder = row.stage.input("pretrain")
        if encoder is not None:
            branches[encoder.fingerprint].add(_leaf(row))
            continue
        name = row.stage.recipe.weights if row.stage.recipe.kind == "released" else "random initialisation"
        if name not in others:
            others[name] = tree.add(Text(name, "bold"))
        others[name].add(_leaf(row))
    return tree


def _leaf(row: PlannedStage) -> Text:
    text = Text(row.stage.id, "" if row.state == "to do" else "dim")
    serves = f" [{' '.join(row.serves)}]" if row.serves else ""
    time = f", {_span(row.hours, lambda value: roughly(max(1, 3600 * value)))}" if row.hours else ""
    return text.append(f"{serves}  {row.state}{f': {row.reason}' if row.reason else ''}{time}", "dim")


def plan_json(planned: Planned) -> dict[str, object]:
    """The plan as JSON data: resolved experiments with their cells, stages with costs, sums."""
    to_do = planned.to_do
    return {
        "experiments": [_experiment_json(study) for study in planned.studies],
        "left_out": [str(path) for path in planned.left_out],
        "missing_datasets": list(planned.joint.missing_datasets),
        "stages": [_stage_json(row) for row in planned.stages],
        "counts": dict(planned.joint.counts()),
        "to_do": {
            "stages": len(to_do),
            "total_flops": sum(row.cost.total_flops or 0 for row in to_do if row.cost),
            "clips": sum(row.cost.clips or 0 for row in to_do if row.cost),
            "decoded_bytes": sum(row.cost.decoded_bytes or 0 for row in to_do if row.cost),
            "device_hours": _sum_json([(row.hours, row.device[1]) for row in to_do]),
            "price": _sum_json([(row.price, 1) for row in to_do]),
            "assumptions": [*dict.fromkeys(row.device[0].assumption for row in to_do), DECODING],
        },
    }


def _sum_json(spans: Iterable[tuple[Range | None, int]]) -> list[float] | None:
    known = [(low * count, high * count) for span, count in spans if span is not None for low, high in (span,)]
    return [sum(column) for column in zip(*known, strict=True)] if known else None


def _experiment_json(study: Study) -> dict[str, object]:
    plan = study.plan
    return {
        "file": study.request.spec,
        "paper": _short(study),
        "profile": study.resolved.profile_name,
        "why_profile": study.why_profile,
        "experiment": study.resolved.experiment.to_json(),
        "cells": [
            {"variant": c.variant, "seed": c.seed, "column": c.column, "baseline": c.baseline, "stage": c.stage.id}
            for c in plan.cells
        ],
        "not_available": [
            {
                "variant": gap.variant,
                "seed": gap.seed,
                "column": gap.column,
                "reason": gap.reason,
                "stage": gap.stage.id if gap.stage else None,
            }
            for gap in plan.gaps
        ],
    }


def _stage_json(row: PlannedStage) -> dict[str, object]:
    stage = row.stage
    return {
        "id": stage.id,
        "kind": stage.kind,
        "work": kind_of_work(stage),
        "fingerprint": stage.fingerprint,
        "inputs": [needed.id for needed in stage.inputs],
        "serves": list(row.serves),
        "state": row.state,
        "reason": row.reason,
        "in_store": row.in_store,
        "device": row.device[0].name,
        "devices": row.device[1],
        "hours": row.hours,
        "cpu_cores": row.cores,
        "price": row.price,
        "cost": _cost_json(row.cost),
    }


def _cost_json(cost: StageCost | None) -> dict[str, object] | None:
    if cost is None:
        return None
    return {
        "parameters": cost.parameters,
        "tokens_per_clip": cost.tokens_per_clip,
        "masks": [{"context": mask.context, "target": mask.target} for mask in cost.masks],
        "forward_flops_per_clip": cost.forward_flops,
        "backward_flops_per_clip": cost.backward_flops,
        "total_flops": cost.total_flops,
        "clips": cost.clips,
        "decoded_bytes": cost.decoded_bytes,
        "memory_bytes": cost.memory_bytes,
    }
