"""The service's command: ``python -m fiftyone_milvus.embedded --path DIR``.

Clients run this file by its path rather than with ``-m``, which would look for the package in the
current directory first. Either way the ``__init__`` of pymilvus is not executed, since the service
needs its message types only, and pandas is not imported: both would double the time until it is
ready.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any


class _Bare(types.ModuleType):
    """A package whose ``__init__`` runs only when a name of it is used."""

    def __getattr__(self, name: str) -> Any:
        # Python looks here for submodules before it imports them.
        if name.startswith("__") or self.__dict__.get("_executed"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        if importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            raise AttributeError(name)
        self.__dict__["_executed"] = True
        loader = getattr(self.__spec__, "loader", None)
        if loader is not None:
            loader.exec_module(self)
        return getattr(self, name)


def _import_bare(name: str) -> None:
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
        return
    module = _Bare(name)
    module.__spec__ = spec
    module.__file__ = spec.origin
    module.__package__ = name
    module.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[name] = module


class _NoPandas:
    """Finds no pandas, so that pyarrow does not import it when it first sees a list of values."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def _import_pyarrow() -> None:
    sys.meta_path.insert(0, _NoPandas)
    try:
        # From then on, pyarrow knows that it has no pandas.
        importlib.import_module("pyarrow").array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fiftyone_milvus.embedded",
        description="Serve a Milvus Lite directory to the processes of this user.",
    )
    parser.add_argument("--path", type=Path, required=True, help="the data directory")
    parser.add_argument(
        "--idle-seconds", type=float, default=0, help="end when idle for so long; 0: never"
    )
    parser.add_argument(
        "--grace-seconds",
        type=float,
        default=-1,
        help="end so long after the last client process; negative: never",
    )
    parser.add_argument(
        "--close-seconds",
        type=float,
        default=300,
        help="close a collection without a request for so long; 0: never",
    )
    parser.add_argument(
        "--detach", action="store_true", help="leave the terminal; log to the data directory"
    )
    parser.add_argument("--announce", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: its arguments; those of this process by default

    Returns:
        the exit status
    """
    arguments = _arguments(argv)
    if arguments.detach and hasattr(os, "fork") and os.fork():
        # The service is no child of its starter, which then has no zombie to reap.
        os._exit(0)
    os.umask(0o077)

    from fiftyone_milvus.embedded import logs, paths
    from fiftyone_milvus.errors import FiftyOneMilvusError

    def announce(state: dict[str, Any]) -> None:
        if arguments.announce:
            # The starter may have given up waiting.
            with contextlib.suppress(OSError):
                os.write(1, json.dumps(state).encode() + b"\n")
        if arguments.detach:
            logs.silence_stdout()

    path = paths.resolve(arguments.path)
    logs.configure()
    try:
        paths.prepare(path)
        if arguments.detach:
            logs.redirect(path)
            os.chdir(path.anchor)

        from fiftyone_milvus.embedded import service
        from fiftyone_milvus.embedded.lifetime import Lifetime

        lifetime = Lifetime(
            arguments.idle_seconds, arguments.grace_seconds, arguments.close_seconds
        )
        service.serve(path, lifetime, announce)
    except FiftyOneMilvusError as error:
        return _fail(str(error), announce)
    except OSError as error:
        return _fail(str(paths.unusable(path, error)), announce)
    except Exception as error:
        import logging

        logging.getLogger("fiftyone_milvus.embedded").exception("can't serve '%s'", path)
        if isinstance(error, ImportError):
            from fiftyone_milvus.embedded.internals import unsupported

            return _fail(str(unsupported(error)), announce)
        reason = (str(error).splitlines() or [""])[0]
        return _fail(f"can't serve '{path}': {type(error).__name__}: {reason}", announce)
    return 0


def _fail(reason: str, announce: Any) -> int:
    # Announced first: on a full disk, the log can't be written.
    announce({"error": reason})
    with contextlib.suppress(OSError):
        print(reason, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    if not __package__:
        _here = str(Path(__file__).resolve().parent)
        if sys.path and os.path.realpath(sys.path[0]) == _here:  # not with python -P or -I
            sys.path.pop(0)  # its modules are not top-level ones
        _root = str(Path(__file__).resolve().parents[2])
        if _root not in sys.path:
            sys.path.append(_root)
        _import_bare("fiftyone_milvus")
    _import_bare("pymilvus")
    _import_pyarrow()
    _status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not sys.exit(), which would wait for threads that may be building an index.
    os._exit(_status)
