"""ImageNet-1K: `train/SYNSET/*.JPEG`, and `val/SYNSET/*.JPEG` or `val/*.JPEG` with a list of their classes.

Lists: `LOC_val_solution.csv` (ImageId, PredictionString whose first word is the synset), or `val.txt` with lines
`FILE NUMBER` where the number counts the synsets in alphabetical order from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vjepa_exp.data.importers.lists import find_lists, table_rows
from vjepa_exp.data.listing import Listed, Listing, make_listing, read_lines, walk
from vjepa_exp.spec.errors import UserError


def imagenet(files: Path, lists: Path) -> Listing:
    """Both splits; a class is a synset, numbered in alphabetical order.

    Raises:
        UserError: a folder or the list is missing, or cannot be understood.
    """
    for split in ("train", "val"):
        if not (files / split).is_dir():
            raise UserError(f"{files} holds no folder {split}")
    synsets = sorted(path.name for path in (files / "train").iterdir() if path.is_dir())
    if not synsets:
        raise UserError(f"{files / 'train'} holds no folder of a synset")
    return make_listing(_listed(files, lists, synsets), files.resolve(), str(files), classes=synsets)


def _listed(files: Path, lists: Path, synsets: list[str]) -> Iterator[Listed]:
    for synset in synsets:
        for name in walk(files / "train" / synset):
            yield Listed(f"train/{synset}/{name}", synset, "train")
    known, labels = set(synsets), dict[str, str]()
    for name in walk(files / "val"):
        folder, slash, _ = name.partition("/")
        if not slash and not labels:
            labels = _val_labels(lists, synsets)
        label = folder if slash else labels.get(Path(name).stem, "")
        if label not in known:
            raise UserError(f"{files / 'val' / name}: its class '{label}' has no folder below train")
        yield Listed(f"val/{name}", label, "val")


def _val_labels(lists: Path, synsets: list[str]) -> dict[str, str]:
    """Name of an image without its suffix -> synset."""
    for path in find_lists(lists, r"LOC_val_solution\.csv"):
        return {image: boxes.split()[0] for image, boxes in table_rows(path, "ImageId", "PredictionString")}
    for path in find_lists(lists, r"val\.txt"):
        labels = {}
        for number, line in enumerate(read_lines(path), 1):
            name, _, label = line.strip().rpartition(" ")
            if not label.isdecimal() or int(label) >= len(synsets):
                what = f"expected an image and a class from 0 to {len(synsets) - 1}"
                raise UserError(f"{path}:{number}: {what}, found '{line.strip()[:80]}'")
            labels[Path(name).stem] = synsets[int(label)]
        return labels
    raise UserError(
        f"the images of val lie in no synset folders and {lists} holds neither LOC_val_solution.csv nor val.txt; "
        "name the folder of the list with --lists"
    )
