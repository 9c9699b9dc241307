"""Warnings while FiftyOne's database does not answer, and one line of error at the end.

FiftyOne's driver waits for 30 s, or twice as long, without a word, and then raises a page of text.
It is FiftyOne's, so this module changes neither, but watches the calls of this package. Does not
import FiftyOne, as the command line uses it before.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from fiftyone_milvus.errors import FiftyOneDatabaseError
from fiftyone_milvus.watcher import Watcher

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

WARN_SECONDS = 5.0
"""A call that has run for so long has the database asked, again and again."""

REMEDY = "start MongoDB, or check FIFTYONE_DATABASE_URI; see `fiftyone-milvus doctor`"

_AGAIN_SECONDS = 30.0
_ANSWER_MS = 2000


class _Call:
    def __init__(self, say: Callable[[str], Any]) -> None:
        self.say, self.began = say, time.monotonic()


class _Thread(threading.local):
    inside = False


_thread = _Thread()
_next = 0.0
"""When the database may be asked again."""


@contextmanager
def answering(say: Callable[[str], Any] = logger.warning) -> Iterator[None]:
    """While calls wait for the database, says so; ends with one line if it does not answer.

    Args:
        say: takes the line that says who is waited for

    Raises:
        FiftyOneDatabaseError: in place of the errors of FiftyOne's driver
    """
    if _thread.inside:
        yield
        return
    call, _thread.inside = _Call(say), True
    _watcher.begin(call)
    try:
        yield
    except Exception as error:
        if (silent := explain(error)) is None or isinstance(error, FiftyOneDatabaseError):
            raise
        logger.debug("FiftyOne's database does not answer", exc_info=True)
        # Not the cause, which takes a page
        raise silent from None
    finally:
        _watcher.end(call)
        _thread.inside = False


def needs_database(function: F) -> F:
    """Makes a function, or a method, one that runs as :func:`answering`."""
    if inspect.isgeneratorfunction(function):
        # Not between its items, as other code of the thread runs then
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with answering():
            return function(*args, **kwargs)

    return cast(F, call)


def methods_need_database(*properties: str) -> Callable[[type[T]], type[T]]:
    """Makes all public methods of a class, with the inherited ones, :func:`needs_database`.

    Args:
        *properties: the properties that read the database too
    """

    def decorate(cls: type[T]) -> type[T]:
        for name in dir(cls):
            found = inspect.getattr_static(cls, name)
            if name in properties:
                found = property(needs_database(found.fget), found.fset, doc=found.__doc__)
            elif name.startswith("_"):
                continue
            elif isinstance(found, classmethod):
                found = classmethod(needs_database(found.__func__))
            elif inspect.isfunction(found):
                found = needs_database(found)
            else:
                continue
            setattr(cls, name, found)
        return cls

    return decorate


def explain(error: BaseException) -> FiftyOneDatabaseError | None:
    """Returns one line for an error that says that the database does not answer, else None.

    Args:
        error: what was raised; the driver's own messages take a page
    """
    errors: Any = sys.modules.get("pymongo.errors")
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))  # an error that is raised again may be its own context
        if isinstance(link, FiftyOneDatabaseError):
            return link
        if (
            errors is not None
            and isinstance(link, errors.AutoReconnect)
            and not isinstance(link, errors.NotPrimaryError)
        ):
            reason = str(link).partition(" (configured timeouts")[0].partition(",")[0]
            return FiftyOneDatabaseError(f"{_name()} does not answer ({reason}): {REMEDY}")
        link = link.__cause__ or link.__context__
    return None


def _look(calls: Collection[_Call]) -> None:
    """Asks the database if a call has run for long, which need not be for the database."""
    global _next
    slow = [call for call in calls if time.monotonic() - call.began >= WARN_SECONDS]
    if not slow or time.monotonic() < _next:
        return
    answers = _answers()
    _next = time.monotonic() + (WARN_SECONDS if answers else _AGAIN_SECONDS)
    # Asking took a while, in which a call may have ended, and its error have been printed
    for say in set() if answers else {call.say for call in slow if call in _watcher.running}:
        say(f"{_name()} does not answer; still waiting")


def _answers() -> bool:
    pymongo: Any = sys.modules.get("pymongo")
    where = _uri()
    if where is None or not hasattr(pymongo, "MongoClient"):
        return True  # FiftyOne has not asked it yet
    try:
        with pymongo.MongoClient(where, serverSelectionTimeoutMS=_ANSWER_MS) as client:
            client.admin.command("ping")
    except pymongo.errors.ServerSelectionTimeoutError:
        return False
    except pymongo.errors.PyMongoError:
        pass  # it answers, if only to refuse
    return True


def _uri() -> str | None:
    """Returns the address of FiftyOne's database, once FiftyOne has read its configuration."""
    config: Any = getattr(sys.modules.get("fiftyone"), "config", None)
    if uri := getattr(config, "database_uri", None) or os.environ.get("FIFTYONE_DATABASE_URI"):
        return str(uri)
    port = os.environ.get("FIFTYONE_PRIVATE_DATABASE_PORT")
    return f"mongodb://localhost:{port}" if port else None


def _name() -> str:
    # Without the credentials that may stand before the @
    uri = _uri()
    shown = "" if uri is None else f" at {uri.partition('//')[2].rpartition('@')[2].split('/')[0]}"
    return f"FiftyOne's database{shown}"


_watcher = Watcher("fiftyone-milvus-database", _look)
