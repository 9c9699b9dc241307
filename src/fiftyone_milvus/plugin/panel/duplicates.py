"""The panel's page of duplicates: a distance is chosen on a histogram, then groups are reviewed."""

from __future__ import annotations

import threading
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import as_number, check_distance
from fiftyone_milvus.plugin import preview, results, review
from fiftyone_milvus.plugin.jobs import Job, Outcome
from fiftyone_milvus.plugin.panel import layout, plots
from fiftyone_milvus.plugin.panel.events import State, event, is_view, prompt, work
from fiftyone_milvus.plugin.panel.home import Home
from fiftyone_milvus.plugin.review import DELETE, KEEP, UNDECIDED, Review
from fiftyone_milvus.plugin.thumbnails import thumbnail

_BINS = 30
_SHARES = (1, 5, 10, 25, 50)
_SHOWN = 24
"""Samples of a group whose pictures are shown."""

_PICTURES = 500
"""Pictures that are kept, some 4 kB each."""

CLOSED: State = {"page": None, "duplicates": None, "group": None}
_SAID = {KEEP: "keep", DELETE: "delete", UNDECIDED: ""}


class Duplicates(Home):
    """The events of the page of duplicates, and how it is drawn."""

    # -- the distance ------------------------------------------------------------------------------

    @event
    def on_duplicates(self, ctx: Any) -> State:
        """Goes on with the review of an index, or shows the histogram for a new one."""
        key = ctx.params["brain_key"]
        found = review.load(ctx.dataset, key, again=True)
        if found is not None and found.duplicates:
            return {"page": "review", **_shown(ctx, found, found.next_undecided(0))}
        return self._choose(ctx, key)

    @event
    def on_choose(self, ctx: Any) -> State:
        """Shows the histogram, for another distance."""
        return self._choose(ctx, ctx.panel.state.duplicates["key"])

    @event
    def on_histogram(self, ctx: Any) -> State:
        """Reads the vectors of a large index."""
        known = ctx.panel.state.duplicates
        return self._read_distances(ctx, known["key"], known)

    @event
    def on_bar(self, ctx: Any) -> State:
        """Takes the upper end of the bar that was clicked."""
        known, x = ctx.panel.state.duplicates, as_number(ctx.params.get("x"))
        if x is None:
            return {}
        above = [edge for edge in known["edges"][1:] if edge > x]
        return self._within(ctx, above[0] if above else known["edges"][-1])

    @event
    def on_row(self, ctx: Any) -> State:
        """Takes the distance of the row that was clicked."""
        rows, row = ctx.panel.state.duplicates["rows"], ctx.params.get("row")
        if not isinstance(row, int) or not 0 <= row < len(rows):
            return {}
        return self._within(ctx, rows[row]["thresh"])

    @event
    def on_thresh(self, ctx: Any) -> State:
        """Takes the distance that was typed."""
        value = as_number(ctx.params.get("value"))
        return {} if value is None else self._within(ctx, value)

    @event
    def on_scope(self, ctx: Any) -> State:
        """Compares the samples of the current view, or of the dataset."""
        known = ctx.panel.state.duplicates
        return {"duplicates": {**known, "in_view": not known["in_view"]}}

    @event
    def on_find(self, ctx: Any) -> State:
        """Finds the groups, writes them to the field and shows the first."""
        known = ctx.panel.state.duplicates
        key, thresh = known["key"], check_distance(known["thresh"])
        samples = ctx.view if known["in_view"] else ctx.dataset
        index = open_index(ctx.dataset, key)
        field = index.config.patches_field
        review.check(ctx.dataset, field)

        def find(job: Job) -> Outcome:
            job.report(None, "Reading vectors and comparing")
            own = results.restricted(index, samples)
            own.find_duplicates(thresh=thresh)
            groups = own.neighbors_map or {}
            if not groups:
                return Outcome(f"No duplicates within {thresh:.4g}; try a larger distance", "info")
            job.report(None, "Writing the groups")
            review.store(ctx.dataset, field, groups, key, thresh)
            found = _loaded(ctx.dataset, key)
            shown = _shown(None, found, found.next_undecided(0))
            return Outcome(state={"page": "review", **shown}, follow_up=_reload)

        return work(ctx, key, "Finding duplicates", find)

    # -- the review --------------------------------------------------------------------------------

    @event
    def on_step(self, ctx: Any) -> State:
        """Shows the next group, or the one before."""
        found = self._review(ctx)
        numbers, group = found.numbers, _seen(ctx)
        at = int(np.searchsorted(numbers, group)) + int(ctx.params["by"])
        return _shown(ctx, found, numbers[at % len(numbers)])

    @event
    def on_decide(self, ctx: Any) -> State:
        """Decides for one sample, or undoes that."""
        found, position = self._review(ctx), int(ctx.params["position"])
        decision = ctx.params["decision"]
        if found.decisions[position] == decision:
            decision = UNDECIDED
        found.decide([position], decision)
        return _shown(ctx, found, ctx.panel.state.group["number"])

    @event
    def on_decide_group(self, ctx: Any) -> State:
        """Decides for all duplicates of a group, and shows the next one."""
        found, number = self._review(ctx), _seen(ctx)
        members = [i for i in found.members(number) if not found.kept[i]]
        found.decide(members, ctx.params["decision"])
        return _shown(ctx, found, found.next_undecided(number))

    @event
    def on_decide_all(self, ctx: Any) -> State:
        """Decides for all duplicates that nothing was decided for."""
        found, decision = self._review(ctx), ctx.params["decision"]
        rest = [i for i in found.duplicates if not found.decisions[i]]
        found.decide(rest, decision)
        what = {KEEP: "kept", DELETE: "tagged to be deleted"}[decision]
        shown = _shown(ctx, found, ctx.panel.state.group["number"])
        return {**shown, "message": ["success", f"{len(rest):,} are {what}; Undo takes it back"]}

    @event
    def on_undo(self, ctx: Any) -> State:
        """Undoes the last decision, and shows its group."""
        found = self._review(ctx)
        number = found.undo()
        return _shown(ctx, found, ctx.panel.state.group["number"] if number is None else number)

    @event
    def on_tag(self, ctx: Any) -> State:
        """Opens the form that tags duplicates."""
        known = ctx.panel.state
        params = {"brain_key": known.duplicates["key"], "group": known.group["number"]}
        return prompt(self, ctx, "tag_duplicates", **params)

    @event
    def on_delete(self, ctx: Any) -> State:
        """Opens the form that deletes what is tagged."""
        return prompt(self, ctx, "delete_duplicates", brain_key=ctx.panel.state.duplicates["key"])

    @event
    def on_grid(self, ctx: Any) -> State:
        """Shows all groups in the grid, or the one that is reviewed."""
        found = self._review(ctx)
        if ctx.params.get("all"):
            ctx.ops.set_view(grouped(found))
        else:
            members = found.members(ctx.panel.state.group["number"])
            ids = [found.ids[i] for i in members]
            ctx.ops.set_view(results.view_of(ctx.dataset, found.patches_field, ids))
        return {}

    @event
    def on_back(self, ctx: Any) -> State:
        """Shows the first page."""
        return {**CLOSED, **self.read(ctx)}

    def read_review(self, ctx: Any) -> State:
        """Returns the state of the review as it is now, as samples or tags may have changed."""
        known = ctx.panel.state.duplicates
        found = review.load(ctx.dataset, known["key"], again=True)
        if found is None or not found.duplicates:
            return self._choose(ctx, known["key"])
        number = (ctx.panel.state.group or {}).get("number", 0)
        return _shown(ctx, found, number if number in found.numbers else found.numbers[0])

    # -- inside ------------------------------------------------------------------------------------

    def _review(self, ctx: Any) -> Review:
        return _loaded(ctx.dataset, ctx.panel.state.duplicates["key"])

    def _choose(self, ctx: Any, key: str) -> State:
        in_view = is_view(ctx)
        size = preview.size_of(ctx.dataset, key)
        known: State = {"key": key, "thresh": None, "rows": [], "edges": [], "size": size}
        known["in_view"] = in_view
        state: State = {"page": "distance", "duplicates": known, "group": None, **_typed(None)}
        if size <= preview.AT_ONCE:
            self._read_distances(ctx, key, known)
        return state

    def _read_distances(self, ctx: Any, key: str, known: State) -> State:

        def read(job: Job) -> Outcome:
            job.report(None, "the distances of samples to their nearest neighbors")
            found = preview.of(ctx.dataset, key)
            edges, counts = plots.histogram(found.distances, _BINS)
            thresh = found.suggestion
            read = {**known, "thresh": thresh, "edges": edges, "counts": counts}
            read["rows"] = _rows(found, thresh)
            shown = {"duplicates": read, **_typed(thresh)}
            return Outcome(state=shown, data={"counts": read["rows"]})

        return work(ctx, key, "Reading", read)

    def _within(self, ctx: Any, thresh: float) -> State:
        known = {**ctx.panel.state.duplicates, "thresh": thresh}
        if known["edges"]:
            known["rows"] = _rows(preview.of(ctx.dataset, known["key"]), thresh)
            ctx.panel.data.set("counts", known["rows"])
        return {"duplicates": known, **_typed(thresh)}

    # -- what it shows -----------------------------------------------------------------------------

    def draw_distance(self, panel: Any, state: Any) -> None:
        """Draws the histogram, the counts and the button that finds the groups."""
        known = state.duplicates
        head = layout.row(panel, "head", gap=2)
        layout.button(
            head, "back", None, "arrow_back", self.on_back, description="Back to the indexes"
        )
        layout.text(head, "title", f"**Duplicates in {known['key']}**")
        self.draw_messages(panel, state)
        if known["edges"]:
            text = "Samples by the distance to their nearest neighbor: click the largest distance "
            panel.md(text + "at which two are duplicates.", name="how")
            shape = plots.histogram_layout("distance", "samples")
            bars = plots.bars(known["edges"], known["counts"], known["thresh"])
            layout.plot(panel, "histogram", 220, shape, data=[bars], on_click=self.on_bar)
        elif known["size"] > preview.AT_ONCE and not state.jobs:
            buttons = layout.row(panel, "histogram_buttons")
            label = f"Show distances (reads all {known['size']:,} vectors once)"
            layout.button(buttons, "read", label, "bar_chart", self.on_histogram)
        below = layout.row(panel, "find_row", gap=2)
        below.float(
            "thresh",
            label="Distance",
            default=known["thresh"],
            on_change=self.on_thresh,
            view=types.LazyFieldView(componentsProps={"item": {"sx": {"width": 150}}}),
        )
        if known["in_view"] or state.view_active:
            label = "In the current view" if known["in_view"] else "In the whole dataset"
            layout.button(below, "scope", label, "filter_alt", self.on_scope)
        layout.button(
            below, "find", "Find groups", "file_copy", self.on_find,
            primary=True, disabled=known["thresh"] is None,
        )  # fmt: skip
        if known["rows"]:
            table = types.TableView(
                on_click_row=self.on_row,
                size="small",
                componentsProps={
                    "table": {"sx": {"minWidth": 0}},
                    "tableBodyRow": {"sx": {"cursor": "pointer"}},
                },
            )
            table.add_column("distance", label="Up to distance")
            table.add_column("samples", label="Samples with a neighbor (cumulative)")
            panel.list("counts", types.Object(), view=table)

    def draw_review(self, panel: Any, state: Any) -> None:
        """Draws a group side by side, with what can be decided."""
        group = state.group
        head = layout.row(panel, "head", gap=1)
        layout.button(
            head, "back", None, "arrow_back", self.on_back, description="Back to the indexes"
        )
        layout.text(head, "title", group["title"])
        self.draw_messages(panel, state)
        steps = layout.row(panel, "steps")
        for name, icon, by in (("previous", "chevron_left", -1), ("next", "chevron_right", 1)):
            layout.button(
                steps,
                name,
                name.title(),
                icon,
                self.on_step,
                params={"by": by, "group": group["number"]},
            )
        layout.text(steps, "where", group["where"])
        buttons = self._draw_decisions(
            panel, "group_buttons", self.on_decide_group, "duplicates",
            primary=True, group=group["number"],
        )  # fmt: skip
        layout.button(buttons, "undo", "Undo", "undo", self.on_undo, disabled=not group["can_undo"])
        pictures = layout.row(panel, "members")
        for member in group["members"]:
            self._draw_member(pictures, member)
        if group["more"]:
            panel.md(f"... and {group['more']:,} more in this group", name="more")
        panel.md(f"**All groups:** {group['counts']}", name="all_title")
        buttons = self._draw_decisions(panel, "all_buttons", self.on_decide_all, "all undecided")
        if group["deleted"]:
            label = f"Delete {group['deleted']:,} from the dataset ..."
            layout.button(buttons, "delete_tagged", label, "delete_forever", self.on_delete)
        layout.button(buttons, "tag", "Tag ...", "label", self.on_tag)
        layout.button(
            buttons, "grid", "In the grid", "grid_view", self.on_grid, params={"all": True}
        )
        layout.button(buttons, "distance", "Other distance", "bar_chart", self.on_choose)

    def _draw_decisions(
        self, panel: Any, name: str, handler: Any, what: str, primary: bool = False, **seen: Any
    ) -> Any:
        buttons = layout.row(panel, name)
        layout.button(
            buttons, "delete", f"Delete {what}", "delete_outline", handler,
            primary=primary, params={"decision": DELETE, **seen},
        )  # fmt: skip
        keep = {"decision": KEEP, **seen}
        layout.button(buttons, "keep", f"Keep {what}", "check", handler, params=keep)
        return buttons

    def _draw_member(self, parent: Any, member: Any) -> None:
        color = {DELETE: "rgb(220, 60, 60)", KEEP: "rgb(60, 160, 80)"}.get(member["decision"])
        style: dict[str, Any] = {"width": 144, "p": 0.75}
        if color is not None:
            style["borderColor"] = color
        box = layout.card(parent, f"member_{member['position']}", in_row=True, **style)
        picture = _pictures.get(member["image"])
        if picture is not None:
            box.str(
                "image",
                default=picture,
                view=types.ImageView(
                    alt=member["name"],
                    componentsProps={
                        "image": {
                            "style": {
                                "width": "100%",
                                "height": 110,
                                "objectFit": "contain",
                                "display": "block",
                                "margin": "0 auto",
                            }
                        }
                    },
                ),
            )
        else:
            box.md(f"`{member['name']}`", name="image")
        said = member["caption"]
        if _SAID[member["decision"]]:
            said += f", **{_SAID[member['decision']]}**"
        box.md(said, name="caption")
        buttons = layout.row(box, "decide")
        for decision, icon in ((DELETE, "delete_outline"), (KEEP, "check")):
            if not member["kept"] or decision == DELETE:
                layout.button(
                    buttons, decision.replace("-", "_"), None, icon, self.on_decide,
                    primary=member["decision"] == decision,
                    description=f"{_SAID[decision].title()} this one",
                    params={"position": member["position"], "decision": decision},
                )  # fmt: skip


def grouped(found: Review) -> Any:
    """Returns the view of a review in which the grid shows a stack for each group."""
    if found.patches_field is not None:
        return results.view_of(found.dataset, found.patches_field, found.ids)
    samples = results.all_samples(found.dataset).exists(review.FIELD)
    return samples.group_by(f"{review.FIELD}.group", order_by=f"{review.FIELD}.distance")


def _loaded(dataset: Any, key: str) -> Review:
    found = review.load(dataset, key)
    if found is None:
        raise InvalidInputError("The groups were removed meanwhile; search for duplicates again")
    return found


def _seen(ctx: Any) -> int:
    """Returns the group that the user saw, which another event may have changed meanwhile."""
    return int(ctx.params.get("group") or ctx.panel.state.group["number"])


def _typed(thresh: float | None) -> State:
    """Returns the state that shows a distance in the box, in place of what was typed there."""
    return {"find_row": {"thresh": thresh}}


def _reload(ctx: Any) -> None:
    ctx.ops.reload_dataset()


def _rows(found: preview.Preview, thresh: float) -> list[dict[str, Any]]:
    """Returns the rows of the table: cumulative counts, also for the chosen distance."""
    others = np.percentile(found.distances, _SHARES).tolist()
    values = sorted({*(float(f"{value:.3g}") for value in others), float(thresh)})
    about = "" if len(found.distances) == found.vectors else "about "
    return [
        {
            "thresh": value,
            "distance": f"{value:.4g}" + (" ◀" if value == thresh else ""),
            "samples": f"{about}{found.count(value):,} of {found.vectors:,}",
        }
        for value in values
    ]


def _shown(ctx: Any, found: Review, number: int) -> State:
    """Returns the state that shows a group."""
    members = found.members(number)
    decided = sum(1 for i in found.duplicates if found.decisions[i])
    deleted, duplicates = len(found.deleted), len(found.duplicates)
    numbers = found.numbers
    group = {
        "number": number,
        "title": f"**Duplicates in {found.brain_key}** within {found.thresh:.4g}",
        "where": f"Group {numbers.index(number) + 1:,} of {len(numbers):,}",
        "counts": f"{decided:,} of {duplicates:,} duplicates decided, {deleted:,} to delete",
        "deleted": deleted,
        "can_undo": found.can_undo,
        "members": _members(found, members[:_SHOWN]),
        "more": max(0, len(members) - _SHOWN),
    }
    known = {"key": found.brain_key, "thresh": found.thresh, "rows": [], "edges": []}
    return {"group": group, "duplicates": {**known, "in_view": False, "size": 0}}


def _members(found: Review, positions: list[int]) -> list[dict[str, Any]]:
    samples = results.all_samples(found.dataset).select(
        list({found.sample_ids[i] for i in positions})
    )
    by_id = {sample.id: sample for sample in samples}
    shown = []
    for i in positions:
        sample = by_id.get(found.sample_ids[i])
        label, name = None, f"{found.dataset._doc.id}/{found.ids[i]}"
        if sample is not None and found.patches_field is not None:
            label = _label(sample, found.patches_field, found.ids[i])
        shown.append(
            {
                "position": i,
                "name": "deleted" if sample is None else sample.filename,
                "kept": bool(found.kept[i]),
                "caption": "kept" if found.kept[i] else f"distance {found.distances[i]:.4g}",
                "decision": found.decisions[i],
                "image": name,
            }
        )
        if sample is not None:
            picture = thumbnail(sample.filepath, sample.media_type, label)
            _remember(name, picture)
    return shown


_pictures: dict[str, str | None] = {}
"""Pictures of the groups that were shown last: the App would send back what the state holds."""

_lock = threading.Lock()


def _remember(name: str, picture: str | None) -> None:
    with _lock:
        _pictures.pop(name, None)
        _pictures[name] = picture
        while len(_pictures) > _PICTURES:
            del _pictures[next(iter(_pictures))]


def _label(sample: Any, field: str, label_id: str) -> Any:
    value = sample.get_field(field)
    items = getattr(value, getattr(value, "_LABEL_LIST_FIELD", ""), None)
    labels = [value] if items is None else items
    return next((label for label in labels if label.id == label_id), None)
