"""The demo: indexes and searches images, and draws the results."""

from __future__ import annotations

from pathlib import Path

__all__ = ["run"]


def run(
    *,
    dataset: str = "digits",
    model: str | None = None,
    prompt: str | None = None,
    out: Path | None = None,
    app: bool = False,
    port: int = 5151,
    address: str = "127.0.0.1",
) -> None:
    """Builds the datasets, runs every step, and writes a picture, a page and the code to ``out``.

    Args:
        dataset: ``"digits"``, the scans in scikit-learn, or the name of a dataset of FiftyOne's
            zoo with detections in ``ground_truth``
        model: the name of a model of FiftyOne's zoo that embeds images and text; by default a
            small one for the digits, and CLIP for other datasets
        prompt: the text to search for, by default one that fits the dataset
        out: the directory to write to, created if it is missing; by default ``milvus-demo`` in
            FiftyOne's directory of datasets
        app: whether to open the FiftyOne App at the end, and wait until it is closed
        port: the App's port
        address: the address that the App listens on

    Raises:
        FiftyOneMilvusError: if the dataset or the model can't be loaded
    """
    from fiftyone_milvus.demo import tour

    tour.run(tour.prepare(dataset, model, prompt), out or tour.default_out())
    if app:
        tour.open_app(dataset, port, address)
