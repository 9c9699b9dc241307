"""The command that runs the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.cli.registry import SET_UP, command


@command(SET_UP, "demo --dataset quickstart --model clip-vit-base32-torch")
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
        Path, typer.Option(help="The folder for the contact sheet, the page and the code.")
    ] = Path("fiftyone-milvus-demo"),
    open_app: Annotated[bool, typer.Option("--app", help="Open the result in the App.")] = False,
    port: Annotated[int, typer.Option(help="The App's port.")] = 5151,
    address: Annotated[str, typer.Option(help="The address the App listens on.")] = "127.0.0.1",
) -> None:
    """Index images and patches, and search them in every way that FiftyOne has.

    By default, the images are the handwritten digits of scikit-learn, so nothing is downloaded.
    Prints the code of each step, and writes a picture of the results.
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
