"""The command that runs the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.arguments import Yes
from fiftyone_milvus.cli.registry import SET_UP, command
from fiftyone_milvus.cli.waiting import waiting


@command(SET_UP, "demo --dataset quickstart --model clip-vit-base32-torch", "demo --remove")
def demo(
    dataset: Annotated[
        str,
        typer.Option(help="`digits`, or a dataset of FiftyOne's zoo with detections."),
    ] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of FiftyOne's zoo.",
            show_default="for the digits, a small one that is trained at once",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="The text to search for.", show_default="one that fits the dataset"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the contact sheet, the page and the code.",
            show_default="milvus-demo, in FiftyOne's directory of datasets",
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all that the demo made, after a question.")
    ] = False,
    yes: Yes = False,
    open_app: Annotated[bool, typer.Option("--app", help="Open the result in the App.")] = False,
    port: Annotated[int, typer.Option(help="The App's port.")] = 5151,
    address: Annotated[str, typer.Option(help="The address the App listens on.")] = "127.0.0.1",
) -> None:
    """Index images and patches, and search them in every way that FiftyOne has.

    By default, the images are the handwritten digits of scikit-learn, so nothing is downloaded.
    Prints the code of each step, and writes a picture of the results.
    """
    if remove:
        _remove(dataset, out, yes)
        return
    arguments.ensure_mongod()
    with waiting("Starting FiftyOne"):
        import fiftyone_milvus.demo.tour  # noqa: F401
    from fiftyone_milvus.demo import run

    run(
        dataset=dataset,
        model=model,
        prompt=prompt,
        out=out,
        app=open_app,
        port=port,
        address=address,
    )


def _remove(dataset: str, out: Path | None, yes: bool) -> None:
    arguments.fiftyone()
    from fiftyone_milvus.demo import removal

    made = removal.find(dataset, out)
    if not made:
        typer.echo("There is nothing of the demo")
        return
    typer.echo(str(made))
    if not arguments.confirm("Remove all of this?", yes):
        raise typer.Exit(1)
    removal.remove(made)
    typer.echo("Removed")
