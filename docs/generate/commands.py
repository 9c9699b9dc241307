"""The page of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from fiftyone_milvus import cli

_HEAD = """\
# The command line

<!-- Written by `make reference`; change the code instead. -->

`fiftyone-milvus COMMAND --help` shows the same text. With `--json`, a command prints only JSON to the standard output, and
everything else to the standard error. `fiftyone-milvus --install-completion` lets your shell complete commands, options, and
the names of datasets, brain keys, models and metrics.
If `fiftyone-milvus` is not on the `PATH`, `python -m fiftyone_milvus` is the same.

Many examples use FiftyOne's dataset `quickstart` and the model `clip-vit-base32-torch`. They are downloaded, and the model
needs torch: run `pip install torch torchvision` and `fiftyone zoo datasets load quickstart` first. `fiftyone-milvus demo`
makes the dataset `milvus-digits` and the model `digits-prompt`, which need neither.

| exit code | |
| --- | --- |
| 0 | done |
| 1 | an error, or something that was found, in one line |
| 2 | wrong usage |
| 130 | interrupted |
"""


def page() -> str:
    """Returns the page, a section for each command."""
    root: Any = typer.main.get_command(cli.app)
    parts = [_HEAD]
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for inner, one in command.commands.items():
                parts.append("\n".join(_section(f"{name} {inner}", one)))
        else:
            parts.append("\n".join(_section(name, command)))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _section(name: str, command: Any) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    yield _plain(command.help)
    yield ""
    rows = [row for parameter in command.params if (row := _row(parameter)) is not None]
    if rows:
        yield "| | | default |"
        yield "| --- | --- | --- |"
        yield from rows
        yield ""
    examples = re.findall(r"fiftyone-milvus .+", command.epilog or "")
    if examples:
        yield "```shell"
        yield from examples
        yield "```"


def _row(parameter: Any) -> str | None:
    if "--help" in parameter.opts:
        return None
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        label = f"`{name}`" if parameter.required or "[" in name else f"`[{name}]`"
    else:
        label = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.show_default if isinstance(parameter.show_default, str) else None
    value = parameter.default
    # Not by equality: 0 is a default to show, and equals False
    given = value is not None and value is not False and value != ()
    if default is None and given and not parameter.required:
        if isinstance(value, bool):
            default = f"`{parameter.opts[0]}`"
        elif parameter.show_default:
            default = f"`{value}`"
    return f"| {label} | {_plain(parameter.help or '')} | {default or ''} |"


def _plain(text: str) -> str:
    return re.sub(r"\[/?\w+\]", "", text).replace("|", "\\|").strip()
