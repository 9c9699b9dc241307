"""Shows the results of a search: as a table, with thumbnails, and as a data frame."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fiftyone_milvus.dataset.media_paths import paths

if TYPE_CHECKING:
    from fiftyone_milvus.search.results import SearchResults

_ROWS = 10
_THUMBNAILS = 24
_PIXELS = 128


def columns(results: SearchResults) -> dict[str, Any]:
    """Returns what is known of each result, by name: distances, IDs and files.

    Args:
        results: the results

    Returns:
        sequences of the length of the results. ``"label_id"`` is missing if they are no patches
    """
    found = {} if results._samples is None else paths(results._samples, results.sample_ids)
    known: dict[str, Any] = {
        "distance": results.distances,
        "sample_id": results.sample_ids,
    }
    if results.label_ids is not None:
        known["label_id"] = results.label_ids
    known["filepath"] = [found.get(i) for i in results.sample_ids]
    return known


def table(results: SearchResults) -> str:
    """Returns the first results as lines of text."""
    shown = results[:_ROWS]
    known = columns(shown)
    cells = [["", *known]]
    for at in range(len(shown)):
        distance, *others = (values[at] for values in known.values())
        cells.append([str(at + 1), f"{distance:.4g}", *(str(other or "") for other in others)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]
    more = [f"... and {len(results) - _ROWS:,} more"] if len(results) > _ROWS else []
    return "\n".join([*lines, *more])


def gallery(results: SearchResults, title: str) -> str:
    """Returns the first results as HTML, each a thumbnail with its distance.

    A file that can't be shown, such as a video, is named instead.

    Args:
        results: the results
        title: what stands above them
    """
    shown = results[:_THUMBNAILS]
    known = columns(shown)
    boxes = _boxes(shown)
    figures = []
    for at, (distance, path) in enumerate(zip(known["distance"], known["filepath"])):
        picture = _thumbnail(path, boxes.get(shown.ids[at]))
        text = html.escape(Path(path).name if path else shown.sample_ids[at])
        inner = text if picture is None else f'<img src="{picture}" title="{text}">'
        figures.append(
            '<figure style="margin:4px;text-align:center;max-width:140px;overflow-wrap:anywhere">'
            f"{inner}<figcaption>{distance:.4g}</figcaption></figure>"
        )
    more = len(results) - len(shown)
    title = html.escape(title) + (f", the first {len(shown)}" if more > 0 else "")
    return (
        f'<div><p>{title}</p><div style="display:flex;flex-wrap:wrap;align-items:end">'
        f"{''.join(figures)}</div></div>"
    )


def _boxes(results: SearchResults) -> dict[str, Sequence[float]]:
    """Returns the bounding box of each result that is a patch and has one, by label ID."""
    field = results._patches_field
    if results.label_ids is None or field is None or not len(results):
        return {}
    dataset = results._samples._root_dataset
    found = dataset.select_labels(ids=results.label_ids, fields=field)
    paths = [found._get_label_field_path(field, name)[1] for name in ("id", "bounding_box")]
    if dataset.get_field(paths[1]) is None:
        return {}
    each: list[tuple[Any, Any]] = []
    for ids, boxes in zip(*found.values(paths)):
        each += zip(ids or (), boxes or ()) if isinstance(ids, list) else [(ids, boxes)]
    return {i: box for i, box in each if box}


def _thumbnail(path: str | None, box: Sequence[float] | None) -> str | None:
    """Returns the address of an image in itself, or None if it can't be read."""
    try:
        with Image.open(str(path)) as opened:
            image = opened.convert("RGB")
            if box is not None:
                x, y, width, height = box
                left, top = round(x * image.width), round(y * image.height)
                right = max(left + 1, round((x + width) * image.width))
                bottom = max(top + 1, round((y + height) * image.height))
                image = image.crop((left, top, right, bottom))
            image.thumbnail((_PIXELS, _PIXELS))
    except Exception:  # of any of Pillow's formats, or no image at all
        return None
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
