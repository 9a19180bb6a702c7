"""The best variant's encoder of a finished study, in MLflow's registry under the alias `best`.

Best is the highest mean over the columns that all variants have of the mean over seeds of the top-1 accuracy. It is
measured on the validation splits, so it points to an encoder to go on with and is no estimate of how good that is. Of
the variant's seeds the first one is registered and not the luckiest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from vjepa_exp.graph.plan import Plan
from vjepa_exp.graph.stage import Stage
from vjepa_exp.graph.store import Record
from vjepa_exp.graph.variants import Variant
from vjepa_exp.track.connection import Connection
from vjepa_exp.track.ledger import Entry, family_name, study_name

ALIAS = "best"
SCORE = "top1"


@dataclass(frozen=True)
class Best:
    """The best variant of a study.

    Attributes:
        variant: under its first seed.
        encoder: the pretraining of that variant and seed.
        score: mean over `columns` of the mean over seeds, in per cent.
        columns: that all compared variants have.
        among: number of variants compared.
        seeds: of the variant.
    """

    variant: Variant
    encoder: Stage
    score: float
    columns: tuple[str, ...]
    among: int
    seeds: tuple[int, ...]

    @property
    def rule(self) -> str:
        """By what it is the best."""
        seeds = ", ".join(str(seed) for seed in self.seeds)
        return (
            f"highest of {self.among} variants: top-1 on the validation splits, mean over the columns "
            f"{', '.join(self.columns)} of the mean over seeds {seeds}; the encoder of seed {self.seeds[0]}"
        )


def find_best(plan: Plan, records: Mapping[str, Record]) -> Best | None:
    """The best variant of a study whose stages are all done; None where nothing can be compared or nothing was trained.

    Baselines are no candidates, nor are variants without an evaluation that can be done.
    """
    scores: dict[str, dict[str, dict[int, list[float]]]] = {}
    for cell in plan.cells:
        if not cell.baseline and cell.stage.input("pretrain") is not None:
            of_seed = scores.setdefault(cell.variant, {}).setdefault(cell.column, {})
            of_seed.setdefault(cell.variant_seed, []).append(records[cell.stage.fingerprint].metrics[SCORE])
    shared = set.intersection(*(set(columns) for columns in scores.values())) if scores else set()
    columns = tuple(name for name in plan.experiment.experiment.recipe.evaluate if name in shared)
    if not columns:
        return None
    means = {name: fmean(_over_seeds(found[column]) for column in columns) for name, found in scores.items()}
    best = max(means, key=lambda name: means[name])
    variants = [variant for variant in plan.variants if variant.name == best]
    encoder = plan.pretraining[best, variants[0].seed]
    return Best(variants[0], encoder, means[best], columns, len(means), tuple(v.seed for v in variants))


def register(connection: Connection, plan: Plan, best: Best, entry: Entry) -> None:
    """Have the alias point to the version of the best encoder; makes a version only where the encoder has none.

    Args:
        connection: to the server.
        plan: of the study; its experiment and profile name the registered model.
        best: of the study.
        entry: of the run of its pretraining, with the logged model.
    """
    client, name = connection.client, family_name(plan)
    _make_registered_model(connection, name, plan.experiment.experiment.title)
    tags = {
        "study": study_name(plan),
        "variant": best.variant.label,
        "stage": best.encoder.id,
        "fingerprint": best.encoder.fingerprint,
        "model_id": entry.model_id,  # MLflow itself keeps it on some servers only
        "rule": best.rule,
        "score": f"{best.score:.4f}",
    }
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((one for one in versions if one.tags.get("fingerprint") == best.encoder.fingerprint), None)
    if version is None:
        source = client.get_logged_model(entry.model_id).artifact_location
        version = client.create_model_version(name, source, entry.run_id, tags, model_id=entry.model_id)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    if str(client.get_registered_model(name).aliases.get(ALIAS)) != str(version.version):
        client.set_registered_model_alias(name, ALIAS, version.version)


def _make_registered_model(connection: Connection, name: str, title: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        connection.client.create_registered_model(name, description=title)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _over_seeds(by_seed: Mapping[int, list[float]]) -> float:
    """Mean over the variant's seeds, each the mean over repeats of its evaluation."""
    return fmean(fmean(repeats) for repeats in by_seed.values())
