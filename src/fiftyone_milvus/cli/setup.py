"""The commands that set up FiftyOne: enable, disable, setup."""

from __future__ import annotations

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.output import Json, show
from fiftyone_milvus.cli.registry import SET_UP, command


@command(SET_UP, "enable && fiftyone app launch quickstart")
def enable(as_json: Json = False) -> None:
    """Make `backend="milvus"` this package in every process, the App's server included.

    Sets `similarity_backends.milvus.config_cls` in FiftyOne's brain config file, and changes
    nothing else there. Run `disable` before you uninstall the package.
    """
    from fiftyone_milvus.connection import CREDENTIALS, Settings, new_indexes
    from fiftyone_milvus.errors import FiftyOneMilvusError
    from fiftyone_milvus.setup import takeover

    changed, path = takeover.enable(), takeover.config_path()
    try:
        settings = Settings.parse({name: takeover.parameter(name) for name in CREDENTIALS})
        go_to = new_indexes(settings)
    except FiftyOneMilvusError as error:
        go_to = f"nowhere: {error}"
    since = "now" if changed else "already"
    text = (
        f'backend="milvus" is {since} fiftyone-milvus in every process ({path})\n'
        f"New indexes go to {go_to}\n"
        "Run `fiftyone-milvus disable` before you uninstall the package: FiftyOne would look for it"
    )
    show({"changed": changed, "brain_config": path, "new_indexes": go_to}, as_json, text)


@command(SET_UP, "disable && pip uninstall fiftyone-milvus")
def disable(as_json: Json = False) -> None:
    """Undo `enable`. Do this before you uninstall the package."""
    from fiftyone_milvus.setup import takeover

    changed, path = takeover.disable(), takeover.config_path()
    since = "again" if changed else "already"
    text = f'backend="milvus" is {since} FiftyOne\'s built-in ({path})'
    show({"changed": changed, "brain_config": path}, as_json, text)


@command(SET_UP, "setup")
def setup(as_json: Json = False) -> None:
    """Make sure that FiftyOne has a database: install `mongod` if it has none."""
    database = arguments.ensure_mongod()
    text = f"FiftyOne uses mongod {database.version} ({database.path})"
    if database.path is None:
        text = "FiftyOne uses the database in its configuration"
    show(database, as_json, text)
