"""What the command line says while FiftyOne's database does not answer, and at the end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

WARN_SECONDS = 5.0
_ANSWER_MS = 2000
_LOOKS = 6

REMEDY = "start MongoDB, or check FIFTYONE_DATABASE_URI; see `fiftyone-milvus doctor`"


@contextmanager
def watched() -> Iterator[None]:
    """Says it, once, if a command has run for 5 s and the database does not answer.

    FiftyOne's driver waits for 30 s, or twice as long, without a word.
    """
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ended,), name="database-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def explain(error: BaseException) -> str | None:
    """Returns one line for an error that says that the database does not answer, else None.

    Args:
        error: what a command raised; the driver's own messages take a page
    """
    errors: Any = sys.modules.get("pymongo.errors")
    link: BaseException | None = error
    seen: set[int] = set()
    while errors is not None and link is not None and id(link) not in seen:
        seen.add(id(link))  # an error that is raised again may be its own context
        if isinstance(link, errors.ServerSelectionTimeoutError):
            reason = str(link).partition(" (configured timeouts")[0].partition(",")[0]
            return f"{_name()} does not answer ({reason}): {REMEDY}"
        link = link.__cause__ or link.__context__
    return None


def _watch(ended: threading.Event) -> None:
    for _ in range(_LOOKS):  # a command may not come to the database at once
        if ended.wait(WARN_SECONDS):
            return
        pymongo: Any = sys.modules.get("pymongo")
        where = _uri()
        if where is None or not hasattr(pymongo, "MongoClient") or _answers(pymongo, where):
            continue
        if not ended.is_set():
            typer.echo(f"{_name()} does not answer; still waiting", err=True)
        return


def _answers(pymongo: Any, uri: str) -> bool:
    client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=_ANSWER_MS)
    try:
        client.admin.command("ping")
    except pymongo.errors.ServerSelectionTimeoutError:
        return False
    except pymongo.errors.PyMongoError:
        return True  # if only to refuse
    finally:
        client.close()
    return True


def _uri() -> str | None:
    """Returns the address of FiftyOne's database, once FiftyOne has read its configuration."""
    config: Any = getattr(sys.modules.get("fiftyone"), "config", None)
    if uri := os.environ.get("FIFTYONE_DATABASE_URI") or getattr(config, "database_uri", None):
        return str(uri)
    port = os.environ.get("FIFTYONE_PRIVATE_DATABASE_PORT")
    return f"mongodb://localhost:{port}" if port else None


def _name() -> str:
    # Without the credentials that may stand before the @
    uri = _uri()
    shown = "" if uri is None else f" at {uri.partition('//')[2].rpartition('@')[2].split('/')[0]}"
    return f"FiftyOne's database{shown}"
