"""``fiftyone-milvus demo``: index and search real images, from an empty machine to a picture."""

from __future__ import annotations

from pathlib import Path

__all__ = ["run"]


def run(
    *,
    dataset: str = "digits",
    model: str | None = None,
    prompt: str | None = None,
    out: Path = Path("fiftyone-milvus-demo"),
    app: bool = False,
    port: int = 5151,
    address: str = "127.0.0.1",
) -> None:
    """Builds the datasets, runs every step and leaves a picture, a page and the code in ``out``.

    Args:
        dataset: ``"digits"``, the scans that scikit-learn brings, or the name of a dataset of
            FiftyOne's zoo with a ``ground_truth`` field of detections
        model: the name of a model of FiftyOne's zoo; by default the digits' own. A dataset other
            than the digits needs one that embeds images and text
        prompt: what to search for by text, by default something that the dataset holds
        out: the directory to write to, made where it is missing
        app: whether to open the FiftyOne App at the end, and wait until it is closed
        port: the App's port
        address: the address that the App listens on

    Raises:
        FiftyOneMilvusError: if the dataset or the model can't be had
    """
    from fiftyone_milvus.demo import tour

    tour.run(tour.prepare(dataset, model, prompt), out)
    if app:
        tour.open_app(dataset, port, address)
