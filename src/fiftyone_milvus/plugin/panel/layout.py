"""What the pages of the panel are drawn with: rows that wrap, cards, buttons.

FiftyOne's stacks never wrap, and each of their items takes a share of the width. So a panel that is
narrower than its buttons would scroll. Only a grid without an orientation wraps, and its items must
be told to be as wide as they are.
"""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

_AS_WIDE_AS_IT_IS = {"sx": {"width": "auto", "maxWidth": "100%"}}
_THE_REST = {"sx": {"flex": "1 1 0", "width": "auto", "minWidth": 160}}
_COMPACT = {"sx": {"whiteSpace": "nowrap", "minWidth": 0}}
_ICON = {"sx": {"mr": "-4px"}}


def row(parent: Any, name: str, *, gap: float = 0.75) -> Any:
    """Adds a row that wraps; returns it."""
    return parent.grid(name, orientation="2d", gap=gap, align_y="center")


def card(parent: Any, name: str, *, in_row: bool = False, **sx: Any) -> Any:
    """Adds a box with a border, whose contents are one below the other; returns it."""
    style = {
        "border": "1px solid rgba(128, 128, 128, 0.4)",
        "borderRadius": 1,
        "p": 1.25,
        "boxSizing": "border-box",
        **sx,
    }
    props: dict[str, Any] = {"container": {"sx": style}}
    if in_row:
        props["item"] = _AS_WIDE_AS_IT_IS
    return parent.v_stack(name, gap=1, componentsProps=props)


def text(parent: Any, name: str, markdown: str) -> None:
    """Adds a text to a row, as wide as what is left of the row."""
    parent.md(markdown, name=name, componentsProps={"item": _THE_REST})


def button(
    parent: Any,
    name: str,
    label: str | None,
    icon: str | None,
    on_click: Any,
    *,
    primary: bool = False,
    **kwargs: Any,
) -> None:
    """Adds a button to a row; the parameter ``title`` is its tooltip."""
    parent.btn(
        name,
        label=label,
        icon=icon,
        variant="contained" if primary else "outlined",
        on_click=on_click,
        componentsProps={"item": _AS_WIDE_AS_IT_IS, "button": _COMPACT, "icon": _ICON},
        **kwargs,
    )


def head(parent: Any, title: str, on_back: Any) -> None:
    """Adds the first row of a page: the way back to the indexes, and a title."""
    found = row(parent, "head", gap=2)
    button(found, "back", None, "arrow_back", on_back, description="Back to the indexes")
    text(found, "title", title)


def plot(parent: Any, name: str, height: int, layout: dict[str, Any], **kwargs: Any) -> None:
    """Adds a plot, which the mouse wheel does not zoom."""
    parent.plot(
        name,
        height=height,
        layout=layout,
        config={"displayModeBar": False, "scrollZoom": False, "responsive": True},
        # Else the App makes it as high as the panel
        componentsProps={"item": {"sx": {"height": height}}},
        **kwargs,
    )


def alert(parent: Any, name: str, severity: str, label: str) -> None:
    """Adds a message; the severity is ``"info"``, ``"success"``, ``"warning"`` or ``"error"``."""
    parent.view(name, types.AlertView(severity=severity, label=label))
