"""Arguments that several commands have: datasets, views, indexes and settings."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fiftyone_milvus.cli import completion, output
from fiftyone_milvus.cli.waiting import waiting
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError

if TYPE_CHECKING:
    from fiftyone_milvus.setup.mongod import Mongod

DatasetName = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="The name of a dataset.", autocompletion=completion.datasets
    ),
]
BrainKey = Annotated[
    str,
    typer.Argument(
        metavar="BRAIN_KEY", help="The brain key of an index.", autocompletion=completion.brain_keys
    ),
]
ViewName = Annotated[
    str | None, typer.Option("--view", metavar="NAME", help="A saved view of the dataset.")
]
Uri = Annotated[
    str | None,
    typer.Option(
        help="The address of Milvus, if not the one in FiftyOne's brain config. Credentials come "
        "from there, or from FIFTYONE_BRAIN_SIMILARITY_MILVUS_* variables.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another parameter of the index, with its value as JSON; repeatable.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]


_AUTO = "auto"
_OPTIONAL = ("--shard", "--ray")
"""Options that may have a value; Typer knows only those that must, and those that can't."""


def with_values(given: Sequence[str]) -> list[str]:
    """Returns the arguments of a command line with a value for each option that was given none."""
    found: list[str] = []
    for at, argument in enumerate(given):
        found.append(argument)
        following = given[at + 1] if at + 1 < len(given) else "-"
        if argument in _OPTIONAL and following.startswith("-"):
            found.append(_AUTO)
    return found


def shard(text: str | None) -> tuple[int, int] | None:
    """Returns the shard of an option ``--shard``, which may have no numbers.

    Raises:
        InvalidInputError: if there are no numbers, or none that can be used
    """
    if text is None:
        return None
    from fiftyone_milvus.syncing import shard

    return shard.of_job(os.environ) if text == _AUTO else shard.parse(text)


def fiftyone() -> Any:
    """Returns the module ``fiftyone``, after a check that it has a database.

    Raises:
        FiftyOneMilvusError: if FiftyOne has no database
    """
    from fiftyone_milvus.setup import mongod

    if mongod.find_mongod() is None:
        raise FiftyOneMilvusError("FiftyOne has no database; run `fiftyone-milvus setup`")
    with waiting("Starting FiftyOne"):
        import fiftyone as fo

        fo.list_datasets()  # which starts its database, if none runs
    return fo


def ensure_mongod() -> Mongod:
    """Installs a ``mongod`` if FiftyOne has none, and prints that."""
    from fiftyone_milvus.setup import mongod

    if mongod.find_mongod() is None:
        output.echo(f"FiftyOne has no mongod: installing {mongod.FALLBACK_PACKAGE}")
    return mongod.ensure_mongod()


def dataset(name: str) -> Any:
    """Returns a dataset by its name.

    Raises:
        InvalidInputError: if there is none
    """
    fo = fiftyone()
    names = fo.list_datasets()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "`fiftyone datasets list` shows them"
        raise InvalidInputError(f"There is no dataset '{name}'; {hint}")
    return fo.load_dataset(name)


def samples(name: str, view: str | None) -> Any:
    """Returns a dataset, or a saved view of it.

    Raises:
        InvalidInputError: if there is no such dataset or view
    """
    found = dataset(name)
    if view is None:
        return found
    if not found.has_saved_view(view):
        known = ", ".join(map(repr, found.list_saved_views())) or "none"
        raise InvalidInputError(
            f"Dataset '{name}' has no saved view '{view}'; its saved views are {known}"
        )
    return found.load_saved_view(view)


def part(name: str, view: str) -> Any:
    """Returns a saved view of a dataset, or the samples with a tag.

    Raises:
        InvalidInputError: if there is neither
    """
    found = dataset(name)
    if found.has_saved_view(view):
        return found.load_saved_view(view)
    tags = found.distinct("tags")
    if view not in tags:
        views, tagged = (
            ", ".join(map(repr, n)) or "none" for n in (found.list_saved_views(), tags)
        )
        raise InvalidInputError(
            f"Dataset '{name}' has no saved view and no tag '{view}'; its saved views are {views}, "
            f"and its tags {tagged}"
        )
    return found.match_tags(view)


def index(name: str, brain_key: str, view: str | None = None) -> Any:
    """Returns an index of a dataset; does not connect to Milvus yet.

    Args:
        name: the dataset's
        brain_key: the index's
        view: the name of a saved view that the index is restricted to, or None

    Raises:
        InvalidInputError: if there is no such dataset, index or view
    """
    found = dataset(name)
    from fiftyone_milvus import inventory

    if brain_key not in inventory.keys(found):
        # Raises an error that lists the indexes
        return inventory.stored_index.open_index(found, brain_key)
    opened = found.load_brain_results(brain_key)
    if view is not None:
        opened.use_view(samples(name, view))
    return opened


def settings(given: list[str] | None, *, also: Sequence[str] = (), **named: Any) -> dict[str, Any]:
    """Returns the parameters of an index, from options and from ``--set``.

    Args:
        given: the values of ``--set``, such as ``"num_shards=2"``
        also: names that ``--set`` accepts besides the backend's parameters
        **named: the values of options; None and empty lists are left out

    Raises:
        InvalidInputError: if a value of ``--set`` is no pair, names no parameter of an index, or
            names a credential
    """
    found = {name: value for name, value in named.items() if value not in (None, [])}
    if not given:
        return found
    from fiftyone_milvus.backend import parameter_names
    from fiftyone_milvus.connection import CREDENTIALS

    # Other parameters of FiftyOne would clash with those of the command, or have no effect
    known = [name for name in (*parameter_names(), *also) if name not in CREDENTIALS]
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidInputError(
                f"Invalid --set {pair!r}; expected NAME=VALUE, such as num_shards=2"
            )
        if name in CREDENTIALS:
            raise InvalidInputError(
                f"Other users can see credentials on a command line; set "
                f"FIFTYONE_BRAIN_SIMILARITY_MILVUS_{name.upper()}, or put '{name}' into the brain "
                "config"
            )
        if name not in known:
            raise InvalidInputError(
                f"Unknown parameter '{name}' in --set; expected one of {', '.join(known)}"
            )
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def confirm(question: str, yes: bool) -> bool:
    """Returns whether the user confirms.

    Raises:
        InvalidInputError: if there is no terminal
    """
    if yes:
        return True
    import sys

    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} There is no terminal to ask on; pass --yes")
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as abort:
        # Typer raises the same for Ctrl-C (exit code 130) and for the end of the input (1)
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
