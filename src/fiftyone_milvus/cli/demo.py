"""The demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments


def add_to(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(
        rich_help_panel="Set up",
        epilog="Example: fiftyone-milvus demo --dataset quickstart --model clip-vit-base32-torch",
    )(demo)


def demo(
    dataset: Annotated[
        str,
        typer.Option(help="`digits` (bundled), or a dataset of FiftyOne's zoo with detections."),
    ] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of FiftyOne's zoo.",
            show_default="for digits, one that is trained on the spot",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What to search for by text.", show_default="fits the dataset"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where the contact sheet, the page and the code go.")
    ] = Path("fiftyone-milvus-demo"),
    open_app: Annotated[bool, typer.Option("--app", help="Open the result in the App.")] = False,
    port: Annotated[int, typer.Option(help="The App's port.")] = 5151,
    address: Annotated[str, typer.Option(help="The address the App listens on.")] = "127.0.0.1",
) -> None:
    """Index real images and patches, and search them in every way that FiftyOne has.

    By default the images are the handwritten digits that come with scikit-learn: nothing is
    downloaded. Prints each step as code to paste, and leaves a picture of what it found.
    """
    from fiftyone_milvus.demo import run

    arguments.ensure_mongod()
    run(
        dataset=dataset,
        model=model,
        prompt=prompt,
        out=out,
        app=open_app,
        port=port,
        address=address,
    )
