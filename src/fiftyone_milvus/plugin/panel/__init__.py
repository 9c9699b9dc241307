"""The Milvus panel: indexes as cards, the review of duplicates, and what was measured."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.plugin.panel.distance import CLOSED
from fiftyone_milvus.plugin.panel.events import State, event, is_view, seen_view
from fiftyone_milvus.plugin.panel.home import UNCHOSEN
from fiftyone_milvus.plugin.panel.review import ReviewPage

try:
    from fiftyone.operators.categories import Categories

    _CATEGORY: Any = Categories.CURATE
except ImportError:
    # Older Apps group panels by names
    _CATEGORY = "Curate"


class MilvusPanel(ReviewPage, foo.Panel):
    """The dataset's indexes, what can be done with them, and the Milvus that holds them."""

    @property
    def config(self) -> Any:
        """See the base class."""
        return foo.PanelConfig(
            name="milvus_panel",
            label="Milvus",
            icon="hub",
            surfaces="grid",
            category=_CATEGORY,
            help_markdown="Milvus indexes of this dataset, and the Milvus that holds them",
        )

    def execute(self, ctx: Any) -> Any:
        """See the base class.

        The App tells of the view thrice after each event, also if it is the same. Then nothing is
        drawn: a drawing that arrives late would replace one of a later event.
        """
        told = ctx.params.get("__method__") == "on_change_view"
        if told and ctx.panel.state.seen_view == seen_view(ctx):
            return None
        return super().execute(ctx)

    @event
    def on_change_dataset(self, ctx: Any) -> State:
        """Shows the first page of another dataset."""
        return {**UNCHOSEN, **CLOSED, **self.read(ctx)}

    @event
    def on_change_view(self, ctx: Any) -> State:
        """Notes whether there is a view, and draws the button that leaves a result."""
        return {"view_active": is_view(ctx), "seen_view": seen_view(ctx)}

    def render(self, ctx: Any) -> Any:
        """Draws the page that is open."""
        panel = types.Object()
        state = ctx.panel.state
        if state.page == "distance" and state.duplicates:
            self.draw_distance(panel, state)
        elif state.page == "review" and state.group:
            self.draw_review(panel, state)
        else:
            self.draw_home(ctx, panel)
        spaced = {"container": {"sx": {"p": 2}}}
        view = types.GridView(orientation="vertical", gap=2, componentsProps=spaced)
        return types.Property(panel, view=view)
