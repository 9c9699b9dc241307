"""The panel's first page: the indexes of the dataset as cards, upkeep folded away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus import inventory
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.plugin import NAME, forms
from fiftyone_milvus.plugin.jobs import Job, Outcome
from fiftyone_milvus.plugin.operators import leave
from fiftyone_milvus.plugin.panel import layout, texts
from fiftyone_milvus.plugin.panel.events import State, event, is_view, prompt, seen_view, work
from fiftyone_milvus.plugin.panel.measures import Measures

COMPARE_UP_TO = 200_000
"""Samples up to which the panel compares without a click: that takes a second at most."""

UNCHOSEN: State = {"key": None, "details": "", "recall": None, "plotted": None, "drawn": None}
"""The state without an index whose upkeep is shown."""

_TICK = 2000
"""Milliseconds between two looks at work that is not done."""

_LOOKS = 30
"""How often the panel looks at an index of which nothing is built, as for few rows on a server."""

_CURATE = (
    ("find_unique", "Unique", "auto_awesome"),
    ("select_samples", "Select", "checklist"),
    ("find_groups", "Groups", "workspaces"),
    ("predict_labels", "Labels", "new_label"),
    ("find_label_errors", "Label errors", "rule"),
    ("rate_samples", "Rate", "leaderboard"),
    ("find_leaks", "Leaks", "call_split"),
    ("check_new", "New image", "fact_check"),
    ("compare_datasets", "Drift", "compare_arrows"),
)
"""Operators, labels and icons of what is asked of neighbors."""

_UPKEEP = (
    ("sync_index", "Sync", "sync"),
    ("rename_index", "Rename", "edit"),
    ("delete_index", "Delete", "delete_outline"),
)


class Home(Measures):
    """The events of the first page, and how it is drawn."""

    @event
    def on_load(self, ctx: Any) -> State:
        """Shows the page that was open."""
        return self._read_page(ctx)

    @event
    def refresh(self, ctx: Any) -> State:
        """Asks Milvus and the dataset again."""
        return self._read_page(ctx)

    @event
    def tick(self, ctx: Any) -> State:
        """Looks again at what is not done: work, and the building of indexes."""
        cards = ctx.panel.state.cards or []
        if not any(map(_is_building, cards)):
            return {}
        keys = inventory.keys(ctx.dataset)
        now = [_again(ctx, card) for card in cards if card["brain_key"] in keys]
        return {"cards": now, "looks": (ctx.panel.state.looks or 0) + 1 if now == cards else 0}

    @event
    def compare(self, ctx: Any) -> State:
        """Compares the IDs of each index with the dataset's."""
        return self.read(ctx, compare=True)

    @event
    def on_button(self, ctx: Any) -> State:
        """Opens the form of an operator, for the index of a card."""
        params = ctx.params
        given = {"brain_key": params["brain_key"]} if params.get("brain_key") else {}
        return prompt(self, ctx, params["operator"], **given)

    @event
    def on_again(self, ctx: Any) -> State:
        """Opens a form again as it was when its work failed."""
        operator, given = ctx.panel.state.again
        problem = (ctx.panel.state.message or ["", ""])[1]
        return prompt(self, ctx, operator, **{**given, "problem": problem})

    @event
    def on_clean_up(self, ctx: Any) -> State:
        """Opens the form that drops orphaned collections, with all of them chosen."""
        return prompt(self, ctx, "clean_up", collections=ctx.panel.state.orphans)

    @event
    def on_more(self, ctx: Any) -> State:
        """Shows upkeep and details of an index, or hides them."""
        key = ctx.params["brain_key"]
        if not ctx.params["opens"]:
            return dict(UNCHOSEN)
        info = inventory.index_info(ctx.dataset, key, compare=False)
        return {**UNCHOSEN, "key": key, "details": texts.details(info)}

    @event
    def on_others(self, ctx: Any) -> State:
        """Shows the collections of this Milvus, or hides them."""
        return {"others_shown": bool(ctx.params["opens"])}

    @event
    def on_map(self, ctx: Any) -> State:
        """Draws the map of an index, or adds to it, and opens FiftyOne's Embeddings panel."""
        key = ctx.params["brain_key"]

        def draw(job: Job) -> Outcome:
            index = open_index(ctx.dataset, key)
            found = index.map(progress=forms.bar(job.report))
            points, missing = (found.config.milvus_map[name] for name in ("points", "missing"))
            text = f"Map '{found.key}' has {points:,} points; it is in the Embeddings panel"
            if missing:
                text += f". {missing:,} have no vector in the index: sync it, then draw it again"
            return Outcome(text, follow_up=lambda event: _open_map(event, found.key))

        return work(ctx, key, "Drawing the map", draw)

    def read(self, ctx: Any, *, compare: bool | None = None) -> State:
        """Returns the state that Milvus and the dataset have now."""
        dataset = ctx.dataset
        if compare is None:
            compare = dataset.count() <= COMPARE_UP_TO
        found = inventory.indexes(dataset, compare=compare)
        status = inventory.milvus_status()
        there = inventory.collections() if status.error is None else []
        keys = [info.brain_key for info in found]
        # An index may be in another Milvus than the configured one
        problems = [i.error for i in found if i.error is not None and i.error != status.error]
        orphans = [info for info in there if info.owner == "orphan"]
        state = {
            "cards": [texts.index_card(info) for info in found],
            "compared": compare,
            "view_active": is_view(ctx),
            "seen_view": seen_view(ctx),
            "status": texts.status(status),
            "collections": texts.collections(there),
            "collection_count": len(there),
            "orphans": [info.name for info in orphans],
            "orphans_text": texts.orphans(orphans) if orphans else "",
            "problem": problems[0] if problems else "",
            "looks": 0,
        }
        gone = ctx.panel.state.key is not None and ctx.panel.state.key not in keys
        return {**state, **UNCHOSEN} if gone else state

    def read_review(self, ctx: Any) -> State:
        """Returns the state of the review of duplicates, if its page is open."""
        raise NotImplementedError

    def _read_page(self, ctx: Any) -> State:
        state = self.read(ctx)
        return {**state, **self.read_review(ctx)} if ctx.panel.state.page == "review" else state

    # -- what it shows ----------------------------------------------------------------------------

    def draw_home(self, ctx: Any, panel: Any) -> None:
        """Draws the page."""
        state = ctx.panel.state
        head = layout.row(panel, "head", gap=2)
        layout.text(head, "status", state.status or "Asking Milvus ...")
        layout.button(head, "refresh", None, "refresh", self.refresh, description="Refresh")
        self.draw_messages(panel, state)
        _draw_result(ctx, panel)
        cards = state.cards or []
        for number, card in enumerate(cards):
            self._draw_card(panel, f"card_{number}", card, state)
        if not cards:
            text = "This dataset has no Milvus index. Create one to search it by similarity."
            panel.md(text, name="no_index")
        below = layout.row(panel, "below")
        layout.button(
            below, "create_index", "Create index", "add", self.on_button,
            primary=not cards, params={"operator": "create_index"},
        )  # fmt: skip
        if cards and not state.compared:
            label = "Compare with the dataset"
            layout.button(below, "compare", label, "difference", self.compare)
        if state.orphans:
            box = layout.card(panel, "orphans")
            layout.alert(box, "orphans_text", "warning", state.orphans_text)
            buttons = layout.row(box, "orphans_buttons")
            label = f"Clean up {len(state.orphans):,} ..."
            layout.button(buttons, "clean_up", label, "cleaning_services", self.on_clean_up)
        if state.collection_count:
            what = "Hide" if state.others_shown else "Show"
            count = state.collection_count
            label = f"{what} {count:,} collection{'s' * (count > 1)} of this Milvus"
            icon = "expand_less" if state.others_shown else "expand_more"
            buttons = layout.row(panel, "others")
            given = {"opens": not state.others_shown}
            layout.button(buttons, "others_button", label, icon, self.on_others, params=given)
            if state.others_shown:
                panel.md(state.collections, name="collections")

    def draw_messages(self, panel: Any, state: Any) -> None:
        """Draws what went wrong, how work ended, and what is not done yet."""
        if state.problem:
            layout.alert(panel, "problem", "error", state.problem)
        if state.message:
            layout.alert(panel, "message", *state.message)
        if state.again:
            buttons = layout.row(panel, "again")
            layout.button(buttons, "again_button", "Open the form again", "edit", self.on_again)
        if state.jobs:
            panel.md(state.jobs, name="jobs")
        building = any(map(_is_building, state.cards or []))
        if state.jobs or state.unsettled or (building and (state.looks or 0) < _LOOKS):
            timer = types.TimerView(interval=_TICK, on_interval=self.tick)
            panel.view("timer", timer)

    def _draw_card(self, panel: Any, name: str, card: Any, state: Any) -> None:
        key, opened = card["brain_key"], state.key == card["brain_key"]
        box = layout.card(panel, name)
        box.md(texts.card_title(card), name="title")
        box.md(texts.card_facts(card), name="facts")
        buttons = layout.row(box, "buttons", gap=0.5)
        of_key = {"brain_key": key}
        if card["usable"]:
            layout.button(
                buttons, "search", "Search", "image_search", self.on_button,
                primary=True, params={**of_key, "operator": "search"},
            )  # fmt: skip
            for button, label, icon, handler in (
                ("duplicates", "Duplicates", "file_copy", self.on_duplicates),  # type: ignore[attr-defined]
                ("map", "Map", "scatter_plot", self.on_map),
            ):
                layout.button(buttons, button, label, icon, handler, params=of_key)
        if card["status"] not in ("up to date", "not compared", "no answer"):
            layout.button(
                buttons, "sync", "Sync", "sync", self.on_button,
                primary=not card["usable"], params={**of_key, "operator": "sync_index"},
            )  # fmt: skip
        label, icon = ("Less", "expand_less") if opened else ("More", "expand_more")
        given = {**of_key, "opens": not opened}
        layout.button(buttons, "more", label, icon, self.on_more, params=given)
        if card["usable"]:
            self._draw_operators(box, "curate", _CURATE, key)
        if opened:
            self._draw_operators(box, "upkeep", _UPKEEP, key)
            self.draw_measures(box, state)
            box.md(state.details, name="details")

    def _draw_operators(
        self, box: Any, name: str, operators: Iterable[tuple[str, str, str]], key: str
    ) -> None:
        row = layout.row(box, name, gap=0.5)
        for operator, label, icon in operators:
            layout.button(
                row, operator, label, icon, self.on_button,
                params={"brain_key": key, "operator": operator},
            )  # fmt: skip


def _draw_result(ctx: Any, panel: Any) -> None:
    """Adds buttons if the grid shows a result: next to a panel, those above it have no room."""
    label = leave.back(ctx)
    if label is not None:
        row = layout.row(panel, "result")
        layout.button(row, "leave_results", label, "undo", f"{NAME}/leave_results")
        for operator, title, icon in (
            ("more_like", "More like selected", "thumb_up"),
            ("less_like", "Less like selected", "thumb_down"),
        ):
            layout.button(row, operator, title, icon, f"{NAME}/{operator}")
        layout.button(
            row, "choose_distance", "Distances", "bar_chart", f"{NAME}/choose_distance",
            prompt=True,
        )  # fmt: skip


def _is_building(card: Any) -> bool:
    return card["built"] not in (None, "100%")


def _again(ctx: Any, card: Any) -> Any:
    """Returns a card as it is now, without comparing the index with the dataset again."""
    try:
        now = texts.index_card(inventory.index_info(ctx.dataset, card["brain_key"], compare=False))
    except FiftyOneMilvusError:
        return card
    return {**now, "status": card["status"]}


def _open_map(ctx: Any, key: str) -> None:
    ctx.ops.reload_dataset()
    ctx.ops.open_panel("Embeddings", state={"brainResult": key, "openKey": key})
