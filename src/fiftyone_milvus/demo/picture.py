"""Draws queries and their results as a contact sheet (PNG) and as a page (HTML)."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

_TILE = 112
_GAP = 14
_MARGIN = 36
_QUERY_WIDTH = 2 * _TILE
_ROW_HEIGHT = 26 + _TILE + 30

_PAPER = "#ffffff"
_INK = "#1d2433"
_GRAY = "#6b7487"
_LINE = "#dfe3ea"
_ACCENT = "#00a1ea"


@dataclass(frozen=True)
class Hit:
    """One neighbor: its image, its label, and its distance from the query."""

    image: Image.Image
    label: str
    distance: float


@dataclass(frozen=True)
class Row:
    """One search.

    Attributes:
        title: the kind of search
        code: its Python code
        query: images, a vector or a text
        hits: the results, nearest first
    """

    title: str
    code: str
    query: list[Image.Image] | NDArray[np.floating[Any]] | str
    hits: list[Hit]


def draw_sheet(title: str, rows: list[Row]) -> Image.Image:
    """Returns the rows as one picture: the query on the left, its neighbors on the right."""
    columns = max((len(row.hits) for row in rows), default=0)
    hits_left = _MARGIN + _QUERY_WIDTH + 3 * _GAP
    width = hits_left + columns * (_TILE + _GAP) - _GAP + _MARGIN
    top = _MARGIN + 52
    sheet = Image.new("RGB", (width, top + len(rows) * (_ROW_HEIGHT + _GAP) + _MARGIN // 2), _PAPER)
    pen = ImageDraw.Draw(sheet)

    pen.text((_MARGIN, _MARGIN - 10), title, _INK, _font(26))
    legend = "neighbors, nearest first, with their distance"
    right = width - _MARGIN - pen.textlength(legend, _font(15))
    pen.text((right, _MARGIN), legend, _GRAY, _font(15))

    for i, row in enumerate(rows):
        y = top + i * (_ROW_HEIGHT + _GAP)
        pen.line((_MARGIN, y - 6, width - _MARGIN, y - 6), _LINE)
        pen.text((_MARGIN, y), row.title, _ACCENT, _font(16))
        tiles = y + 26
        sheet.paste(_query_tile(row.query), (_MARGIN, tiles))
        for j, hit in enumerate(row.hits):
            x = hits_left + j * (_TILE + _GAP)
            sheet.paste(_tile(hit.image, _TILE), (x, tiles))
            pen.rectangle((x, tiles, x + _TILE - 1, tiles + _TILE - 1), outline=_LINE)
            distance = f"{hit.distance:.3f}"
            below = tiles + _TILE + 6
            pen.text((x + 1, below), distance, _GRAY, _font(14))
            space = _TILE - 8 - pen.textlength(distance, _font(14))
            label = _shorten(hit.label, space, pen)
            end = x + _TILE - 1 - pen.textlength(label, _font(14))
            pen.text((end, below), label, _INK, _font(14))
    return sheet


def write_page(title: str, rows: list[Row]) -> str:
    """Returns the rows as an HTML page without links to other files."""
    sections = "\n".join(_section(row) for row in rows)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --accent: {_ACCENT}; }}
body {{ font: 15px/1.5 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }}
h1 {{ font-weight: 600; }}
section {{ border-top: 1px solid var(--line); padding: 1rem 0; }}
h2 {{ color: var(--accent); font-size: 1.05rem; margin: 0 0 .5rem; }}
pre {{ background: #8881; border-radius: 6px; overflow-x: auto; padding: .6rem .9rem; }}
.row {{ display: flex; flex-wrap: wrap; gap: .8rem; }}
.query {{ border-right: 2px solid var(--accent); display: flex; gap: .4rem; padding-right: .8rem; }}
.query q {{ align-self: center; font-size: 1.2rem; max-width: 12rem; }}
figure {{ margin: 0; }}
img {{ border: 1px solid var(--line); border-radius: 6px; display: block; height: 96px; }}
figcaption {{ display: flex; font-size: .85rem; gap: .5rem; justify-content: space-between; }}
figcaption span {{ opacity: .65; }}
</style>
<h1>{html.escape(title)}</h1>
<p>The query on the left, then its results in Milvus, nearest first, with their distances.</p>
{sections}
</html>
"""


def _section(row: Row) -> str:
    if isinstance(row.query, str):
        query = f"<q>{html.escape(row.query)}</q>"
    elif isinstance(row.query, list):
        query = "".join(_image(_tile(image, 2 * 96), "the query") for image in row.query)
    else:
        query = _image(_vector_tile(row.query, 2 * 96, 2 * 96), "the query's vector")
    hits = "\n".join(
        f"<figure>{_image(_tile(hit.image, 2 * 96), hit.label)}<figcaption>"
        f"<span>{hit.distance:.3f}</span>{html.escape(hit.label)}</figcaption></figure>"
        for hit in row.hits
    )
    return f"""<section>
<h2>{html.escape(row.title)}</h2>
<pre>{html.escape(row.code.strip())}</pre>
<div class="row"><div class="query">{query}</div>
{hits}
</div>
</section>"""


def _image(image: Image.Image, text: str) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:image/webp;base64,{data}">'


def _query_tile(query: list[Image.Image] | NDArray[np.floating[Any]] | str) -> Image.Image:
    tile = Image.new("RGB", (_QUERY_WIDTH, _TILE), _PAPER)
    if isinstance(query, str):
        _write_text(tile, f"\N{LEFT DOUBLE QUOTATION MARK}{query}\N{RIGHT DOUBLE QUOTATION MARK}")
    elif isinstance(query, list):
        side = min(_TILE, (_QUERY_WIDTH - (len(query) - 1) * 6) // len(query))
        for i, image in enumerate(query):
            tile.paste(_tile(image, side), (i * (side + 6), (_TILE - side) // 2))
    else:
        tile.paste(_vector_tile(query, _QUERY_WIDTH, _TILE), (0, 0))
    return tile


def _tile(image: Image.Image, side: int) -> Image.Image:
    square = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    return square.convert("RGB")


def _vector_tile(vector: NDArray[np.floating[Any]], width: int, height: int) -> Image.Image:
    """Returns the numbers of a vector as bars around a line."""
    tile = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(tile)
    shown = np.asarray(vector, dtype=float)[: width // 3]
    peak = max(float(np.abs(shown).max()), np.finfo(float).tiny)
    middle = height // 2
    for i, value in enumerate(shown):
        end = middle - value / peak * (middle - 4)
        pen.line((i * 3 + 1, middle, i * 3 + 1, end), _ACCENT if value > 0 else _GRAY, 2)
    pen.line((0, middle, width, middle), _LINE)
    return tile


def _write_text(tile: Image.Image, text: str) -> None:
    pen = ImageDraw.Draw(tile)
    font = _font(22)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font) > tile.width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    top = (tile.height - 30 * len(lines)) // 2
    for i, line in enumerate(lines):
        pen.text((0, top + 30 * i), line, _INK, font)


def _shorten(text: str, space: float, pen: ImageDraw.ImageDraw) -> str:
    if pen.textlength(text, _font(14)) <= space:
        return text
    while text and pen.textlength(text + "\N{HORIZONTAL ELLIPSIS}", _font(14)) > space:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
