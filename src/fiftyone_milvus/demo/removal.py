"""Removes what the demo made, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import fiftyone as fo

from fiftyone_milvus.demo import digits, model, tour


@dataclass(frozen=True)
class Made:
    """What a demo left.

    Attributes:
        datasets: the names of the datasets that it made
        indexes: name of the dataset and brain key of each index
        folders: the folders that it made
    """

    datasets: tuple[str, ...]
    indexes: tuple[tuple[str, str], ...]
    folders: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"dataset {name}, with its indexes and maps" for name in self.datasets]
        lines += [f"index {k} of dataset {n}" for n, k in self.indexes if n not in self.datasets]
        return "\n".join([*lines, *(f"{folder}" for folder in self.folders)])

    def __bool__(self) -> bool:
        return bool(self.datasets or self.indexes or self.folders)


def find(dataset: str, out: Path | None) -> Made:
    """Returns what the demo of a dataset made, as far as it is there.

    Args:
        dataset: ``"digits"``, or the name of a dataset of FiftyOne's zoo
        out: the folder that it wrote to; None for the last one
    """
    own = dataset == "digits"
    all_names = (digits.IMAGES, digits.PAGES) if own else (dataset,)
    names = tuple(name for name in all_names if fo.dataset_exists(name))
    indexes, folders = [], []
    for name in names:
        found = fo.load_dataset(name)
        keys = found.list_brain_runs(type="similarity") if own else tour.KEYS
        indexes += [(name, key) for key in keys if found.has_brain_run(key)]
        if out is None and tour.OUT in found.info:
            folders.append(Path(found.info[tour.OUT]))
    folders += [tour.default_out() if out is None else out.expanduser()]
    if own:
        root = Path(fo.config.default_dataset_dir)
        folders += [root / digits.IMAGES, root / digits.PAGES, model.folder()]
    there = dict.fromkeys(folder for folder in folders if any(_files(folder)))
    return Made(names if own else (), tuple(indexes), tuple(there))


def remove(made: Made) -> None:
    """Removes what :func:`find` found. Other files in its folders stay, and their folders too.

    Raises:
        FiftyOneMilvusError: if Milvus does not answer; then the datasets and files stay
    """
    for name, key in made.indexes:
        index = fo.load_dataset(name).load_brain_results(key)
        if index is not None:  # None after an interrupted run
            index.cleanup()
    for name, key in made.indexes:
        if name not in made.datasets:
            fo.load_dataset(name).delete_brain_run(key)
    for name in made.datasets:
        fo.delete_dataset(name)
    for folder in made.folders:
        for path in _files(folder):
            path.unlink()
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    model.forget()


def _files(folder: Path) -> list[Path]:
    """Returns the files in a folder that the demo writes."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    names = {*tour.FILES, *model.FILES}
    if folder.name in (digits.IMAGES, digits.PAGES):
        return [path for path in folder.glob("*.png") if path.stem.isdigit()]
    return [folder / name for name in sorted(names) if (folder / name).is_file()]
