"""What is done with the samples or patches that a command found: named, tagged, shown, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fiftyone_milvus.cli import arguments

Open = Annotated[bool, typer.Option("--open", help="Show the result in the App, until Ctrl-C.")]
Port = Annotated[int, typer.Option(help="The App's port.")]
Save = Annotated[
    str | None,
    typer.Option(metavar="FIELD", help="Store the number of each in a field.", show_default=False),
]
Tag = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tag what is found.", show_default=False)
]


def paths_of(index: Any, ids: Sequence[str]) -> dict[str, str]:
    """Returns the path of the file of each sample or patch of an index, by its ID."""
    from fiftyone_milvus.dataset.media_paths import paths

    dataset = index.samples._root_dataset
    if index.config.patches_field is None:
        return paths(dataset, ids)
    owners = dict(zip(index.current_label_ids.tolist(), index.current_sample_ids.tolist()))
    found = paths(dataset, [owners[i] for i in ids])
    return {i: found[owners[i]] for i in ids if owners[i] in found}


def tag(index: Any, ids: Sequence[str], name: str | None) -> str:
    """Tags samples or patches of an index, if a tag is given; returns what is said of it."""
    if name is None:
        return ""
    from fiftyone_milvus.dataset import selected

    selected.tag(index.samples._root_dataset, index.config.patches_field, ids, name)
    return f"; {len(ids):,} tagged '{name}'"


def delete(index: Any, ids: Sequence[str], yes: bool) -> bool:
    """Deletes samples or patches with their vectors, if the user confirms.

    Args:
        index: the index, whose IDs they are
        ids: sample IDs, or label IDs of an index of patches
        yes: whether the user has confirmed already

    Returns:
        whether they were deleted

    Raises:
        InvalidInputError: if there is no terminal to ask on
    """
    dataset, field = index.samples._root_dataset, index.config.patches_field
    what = f"{len(ids):,} samples" if field is None else f"{len(ids):,} labels in '{field}'"
    files = "" if field is not None else ". Their files stay"
    if not ids or not arguments.confirm(f"Delete {what} of dataset '{dataset.name}'{files}?", yes):
        return False
    if field is None:
        dataset.delete_samples(list(ids))
        index.remove_from_index(sample_ids=ids)
    else:
        dataset.delete_labels(ids=list(ids), fields=field)
        index.remove_from_index(label_ids=ids)
    return True


def open_app(view: Any, port: int) -> None:
    """Shows a view in the App, until Ctrl-C."""
    import fiftyone as fo

    session = fo.launch_app(view=view, port=port)
    session.wait(-1)
