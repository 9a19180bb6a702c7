"""`plan --cluster`: a plan, what it asks of a cluster, and how that goes in simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa_exp.commands.console import console
from vjepa_exp.commands.on_cluster import on_cluster, on_cluster_json, print_on_cluster
from vjepa_exp.commands.plan_view import plan_json, print_json, print_plan
from vjepa_exp.commands.planned import plan_all
from vjepa_exp.commands.simulated import draw, print_simulation, simulate_plan, simulation_json, sizes_of
from vjepa_exp.commands.studies import Request
from vjepa_exp.spec.errors import UserError


@dataclass(frozen=True)
class There:
    """A cluster to plan for, numbers of its GPUs to simulate ('16,64,128'), and where the picture of that goes."""

    cluster: str
    sizes: str | None = None
    picture: Path | None = None


def plan(specs: Sequence[str], request: Request, store: Path, there: There, *, as_json: bool, graph: bool) -> None:
    """Print what `run` would do for these experiments, and on a cluster.

    Raises:
        SpecError: with the problems of a file.
        UserError: there is no such file or profile, the cluster is too small, or the picture cannot be written.
    """
    if there.picture and not there.sizes:
        raise UserError("--picture draws a simulation: add --simulate 16,64,128")
    sizes = sizes_of(there.sizes) if there.sizes else []
    planned, out = plan_all(specs, request, store), console()
    placed = on_cluster(planned, there.cluster)
    pairs = simulate_plan(planned, placed, sizes) if sizes else []
    if as_json:
        data = plan_json(planned) | {"cluster": on_cluster_json(placed)}
        print_json(data | ({"simulation": simulation_json(pairs, placed.cluster)} if pairs else {}), out)
    else:
        print_plan(planned, out, graph=graph)
        print_on_cluster(placed, out)
        if pairs:
            print_simulation(pairs, placed, out)
    if there.picture:
        draw(pairs, f"{', '.join(specs)} on {placed.cluster.name}, at the worst of all assumptions", there.picture)
        console(stderr=True).print(f"picture: {there.picture}", soft_wrap=True)
