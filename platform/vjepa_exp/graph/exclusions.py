"""The removal lists of a study: read, checked against the data sets, and named by what they hold."""

from __future__ import annotations

from collections.abc import Mapping

from vjepa_exp.spec.data import MixtureEntry
from vjepa_exp.spec.datasets import Registry
from vjepa_exp.spec.document import Document, Keys
from vjepa_exp.spec.errors import Mark, Problem, SpecError
from vjepa_exp.spec.pretrain import PretrainSpec
from vjepa_exp.spec.removal import RemovalList, read_removals

_MIXTURE: Keys = ("recipe", "pretrain", "data", "mixture")


class Exclusions:
    """Lists by where a recipe says they lie; each is read once."""

    def __init__(self, document: Document, registry: Registry) -> None:
        """Nothing is read before a list is asked for.

        Args:
            document: of the experiment, for errors to say where a list is named.
            registry: relative paths count from it.
        """
        self._document, self._registry = document, registry
        self._read: dict[str, RemovalList] = {}

    @property
    def lists(self) -> dict[str, RemovalList]:
        """Those that were read, by digest."""
        return {removals.digest: removals for removals in self._read.values()}

    def by_content(self, pretrain: PretrainSpec, digests: Mapping[str, str]) -> PretrainSpec:
        """A copy that names each list by its digest, so that no fingerprint knows where lists lie.

        Args:
            pretrain: whose mixture.
            digests: data set -> SHA-256 of its manifest file. Lists of data sets that are not registered are not read.

        Raises:
            SpecError: a list is not there, cannot be read, or was made for another version of its data set.
        """
        mixture = tuple(self._entry(entry, digests[entry.dataset]) for entry in pretrain.data.mixture)
        return pretrain.model_copy(update={"data": pretrain.data.model_copy(update={"mixture": mixture})})

    def _entry(self, entry: MixtureEntry, digest: str) -> MixtureEntry:
        if entry.exclude is None or not self._registry.has(entry.dataset):
            return entry
        removals = self._read.get(entry.exclude) or self._list(entry)
        self._read[entry.exclude] = removals
        removals.require_version(entry.dataset, digest)
        return entry.model_copy(update={"exclude": removals.digest})

    def _list(self, entry: MixtureEntry) -> RemovalList:
        assert entry.exclude is not None
        path = self._registry.path.parent / entry.exclude
        if not path.is_file():
            where, mark = self._where(entry.exclude)
            make = f"make it: vjepa-exp data leaks {entry.dataset} OTHER_SETS --out {entry.exclude}"
            raise SpecError([Problem(mark, where, f"there is no removal list {path}; {make}")])
        return read_removals(path.resolve())

    def _where(self, exclude: str) -> tuple[str, Mark]:
        """Path and mark of the mixture entry that names a list; a variant's own entry stands under `vary`."""
        entries = self._document.get(_MIXTURE)
        for i, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict) and entry.get("exclude") == exclude:
                keys = (*_MIXTURE, i, "exclude")
                return ".".join(map(str, keys)), self._document.mark(keys)
        return "vary", self._document.mark(("vary",))
