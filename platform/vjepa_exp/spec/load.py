"""From YAML files and overlays to one validated experiment.

Order of the overlays, later wins: the experiment file, the profile's file, what the experiment changes in the profile,
`--set`. The result has nothing left to choose: what an entry inherits is written into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vjepa_exp.spec.document import Document, Keys, parse_yaml
from vjepa_exp.spec.errors import Mark, Problem, SpecError, UserError
from vjepa_exp.spec.evaluate import PROBES
from vjepa_exp.spec.experiment import Experiment, Profile
from vjepa_exp.spec.files import ABSENT, why_no_file
from vjepa_exp.spec.fragments import read_spec
from vjepa_exp.spec.problems import nearest, validate
from vjepa_exp.spec.stand_ins import stand_in, stand_in_mixture
from vjepa_exp.spec.texts import hidden

PAPER = "paper"
"""The profile without an overlay: the recipe as published."""
_TAKEN = {PAPER: "the file as it stands", "auto": "the largest profile that the machine can do"}
"""Names that no profile may have, and what they mean wherever a profile is asked for."""


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment file and its profiles, read but not yet resolved."""

    path: Path
    document: Document
    profiles: dict[str, tuple[Profile, Document]]

    @property
    def profile_names(self) -> list[str]:
        """`paper` (the file as it stands) and the named profiles, in the order of the file."""
        return [PAPER, *self.profiles]


@dataclass(frozen=True)
class ResolvedExperiment:
    """An experiment under one profile, every field decided."""

    experiment: Experiment
    profile_name: str
    profile: Profile | None
    path: Path
    substituted: dict[str, str]
    """Data sets of the paper by the data set that stands in for them."""
    stand_ins: dict[str, str]
    """All that the profile knows, for the data sets that only the levels of a factor name."""
    document: Document = field(repr=False, compare=False)
    """What was validated, for errors found later (variants) to name file and line."""


def read_experiment(path: Path) -> ExperimentFile:
    """Read an experiment and the profiles that it names.

    Raises:
        SpecError: a file cannot be read, or a profile is not valid, or has a name that means something else.
    """
    document = read_spec(path)
    declared = document.get(("profiles",))
    profiles: dict[str, tuple[Profile, Document]] = {}
    problems: list[Problem] = []
    for name in declared if isinstance(declared, dict) else {}:
        keys: Keys = ("profiles", name)
        if name in _TAKEN:
            problem = f"'{name}' means {_TAKEN[name]}: give the profile another name"
            problems.append(Problem(document.mark(keys), ".".join(map(str, keys)), problem))
            continue
        if isinstance(document.get(keys), str):
            document.put(keys, Document({"extends": document.get(keys)}, {(): document.mark(keys)}))
        try:
            profiles[name] = _read_profile(document, keys)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return ExperimentFile(path, document, profiles)


def _read_profile(document: Document, keys: Keys) -> tuple[Profile, Document]:
    extends, mark = document.get((*keys, "extends")), document.mark((*keys, "extends"))
    if not isinstance(extends, str):
        problem = "needs 'extends', the path of a profile file relative to this file"
        raise SpecError([Problem(document.mark(keys), ".".join(map(str, keys)), problem)])
    file = Path(mark.source).parent / extends
    if wrong := why_no_file(file):
        beside = f" beside {Path(mark.source).name}" if wrong == ABSENT else ""
        problem = f"profile file {extends} {wrong}{beside}"
        raise SpecError([Problem(document.mark(keys), ".".join(map(str, keys)), problem)])
    return _parsed_profile(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _parsed_profile(file: Path, version: int) -> tuple[Profile, Document]:
    """A profile, read once however many experiments start from it."""
    profile = read_spec(file)
    return validate(Profile, profile), profile


def resolve(file: ExperimentFile, profile_name: str, sets: Sequence[str] = ()) -> ResolvedExperiment:
    """Lay a profile and `--set` options over an experiment and validate the result.

    Raises:
        SpecError: with every problem found.
        UserError: the profile does not exist.
    """
    if profile_name not in file.profile_names and not file.profiles:
        raise UserError(f"{file.path}: has no profiles and runs as it stands: leave out --profile {profile_name}")
    if profile_name not in file.profile_names:
        known = ", ".join(file.profile_names)
        raise UserError(
            f"{file.path}: no profile '{profile_name}'.{nearest(profile_name, file.profile_names)} Profiles: {known}."
        )
    document = file.document.copy()
    profile, substituted, stand_ins = None, dict[str, str](), dict[str, str]()
    if profile_name != PAPER:
        profile, source = file.profiles[profile_name]
        if profile.overlay:
            document.merge(source.part(("overlay",)))
        more = file.document.get(("profiles", profile_name, "datasets"))
        stand_ins = profile.datasets | (more if isinstance(more, dict) else {})
        substituted = _substitute(document, stand_ins)
        _lay_over_each(document, source.part(("evaluate_each",)))
        _lay_over_each(document, file.document.part(("profiles", profile_name, "evaluate_each")))
        change = file.document.part(("profiles", profile_name, "overlay"))
        if isinstance(change.data, dict):  # or the validation that follows says what it is
            document.merge(change)
        profile = _with_own_differs(profile, file.document.get(("profiles", profile_name, "differs")))
    for text in sets:
        _apply_set(document, text)
    _inherit_clips(document)
    experiment = validate(Experiment, document)
    return ResolvedExperiment(experiment, profile_name, profile, file.path, substituted, stand_ins, document)


def _with_own_differs(profile: Profile, own: object) -> Profile:
    """The profile, its sentence followed by that of the experiment."""
    if not isinstance(own, str):  # absent, or the validation that follows says what it is
        return profile
    return profile.model_copy(update={"differs": f"{profile.differs.strip()} {own.strip()}".strip()})


def _substitute(document: Document, stand_ins: dict[str, str]) -> dict[str, str]:
    """Put stand-ins for the data sets of the recipe; what was replaced, by what."""
    done = stand_in_mixture(document, ("recipe", "pretrain", "data", "mixture"), stand_ins)
    evaluate = document.get(("recipe", "evaluate"))
    for name in evaluate if isinstance(evaluate, dict) else {}:
        done |= stand_in(document, ("recipe", "evaluate", name, "dataset"), stand_ins)
    return done


def _lay_over_each(document: Document, overlay: Document) -> None:
    evaluate = document.get(("recipe", "evaluate"))
    for name, entry in evaluate.items() if isinstance(evaluate, dict) and isinstance(overlay.data, dict) else ():
        if isinstance(entry, dict) and entry.get("kind") in PROBES:
            if overlay.get(("kind",)) in PROBES:  # the other probe of the same data: it keeps all that was said of them
                document.put(("recipe", "evaluate", name, "kind"), overlay.part(("kind",)))
            document.merge(overlay, ("recipe", "evaluate", name))


def _apply_set(document: Document, text: str) -> None:
    key, equals, value = text.partition("=")
    source = f"--set {hidden(text)}"
    if not equals or not key:
        raise SpecError([Problem(Mark(source), "", "is not of the form a.b=value")])
    try:
        document.put(document.keys(key.strip()), parse_yaml(value, source, line=0))
    except KeyError:
        raise SpecError([Problem(Mark(source), key, "there is no such place in the experiment")]) from None


def _inherit_clips(document: Document) -> None:
    """A probe that does not describe its clip looks at the clips of pretraining."""
    evaluate = document.get(("recipe", "evaluate"))
    inherited = document.part(("recipe", "pretrain", "data", "clip"))
    for name in evaluate if isinstance(evaluate, dict) else {}:
        entry: Keys = ("recipe", "evaluate", name)
        if isinstance(document.get(entry), dict) and document.get((*entry, "clip")) is None:
            document.put((*entry, "clip"), inherited if inherited.data else Document({}, {(): document.mark(entry)}))
