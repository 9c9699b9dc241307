"""The panel's page on which groups of duplicates are reviewed."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.plugin import review
from fiftyone_milvus.plugin.panel import layout
from fiftyone_milvus.plugin.panel.distance import Distance
from fiftyone_milvus.plugin.panel.events import State, event, prompt
from fiftyone_milvus.plugin.panel.shown_group import picture, shown_group
from fiftyone_milvus.plugin.review import DELETE, KEEP, UNDECIDED, Review

_SAID = {KEEP: "keep", DELETE: "delete", UNDECIDED: ""}


class ReviewPage(Distance):
    """The events of the page, and how it is drawn."""

    @event
    def on_duplicates(self, ctx: Any) -> State:
        """Goes on with the review of an index, or shows the histogram for a new one."""
        key = ctx.params["brain_key"]
        found = review.load(ctx.dataset, key, again=True)
        if found is not None and found.duplicates:
            return {"page": "review", **shown_group(found, found.next_undecided(0))}
        return self._choose(ctx, key)

    @event
    def on_step(self, ctx: Any) -> State:
        """Shows the next group, or the one before."""
        found = self._review(ctx)
        numbers, group = found.numbers, _seen(ctx)
        at = int(np.searchsorted(numbers, group)) + int(ctx.params["by"])
        return shown_group(found, numbers[at % len(numbers)])

    @event
    def on_decide(self, ctx: Any) -> State:
        """Decides for one sample, or undoes that."""
        found, position = self._review(ctx), int(ctx.params["position"])
        decision = ctx.params["decision"]
        if found.decisions[position] == decision:
            decision = UNDECIDED
        found.decide([position], decision)
        return shown_group(found, ctx.panel.state.group["number"])

    @event
    def on_decide_group(self, ctx: Any) -> State:
        """Decides for all duplicates of a group, and shows the next one."""
        found, number = self._review(ctx), _seen(ctx)
        members = [i for i in found.members(number) if not found.kept[i]]
        found.decide(members, ctx.params["decision"])
        return shown_group(found, found.next_undecided(number))

    @event
    def on_decide_all(self, ctx: Any) -> State:
        """Decides for all duplicates that nothing was decided for."""
        found, decision = self._review(ctx), ctx.params["decision"]
        rest = [i for i in found.duplicates if not found.decisions[i]]
        found.decide(rest, decision)
        what = {KEEP: "kept", DELETE: "tagged to be deleted"}[decision]
        shown = shown_group(found, ctx.panel.state.group["number"])
        return {**shown, "message": ["success", f"{len(rest):,} are {what}; Undo takes it back"]}

    @event
    def on_undo(self, ctx: Any) -> State:
        """Undoes the last decision, and shows its group."""
        found = self._review(ctx)
        number = found.undo()
        return shown_group(found, ctx.panel.state.group["number"] if number is None else number)

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
            ctx.ops.set_view(selected.view_of(ctx.dataset, found.patches_field, ids))
        return {}

    def read_review(self, ctx: Any) -> State:
        """Returns the state of the review as it is now, as samples or tags may have changed."""
        known = ctx.panel.state.duplicates
        found = review.load(ctx.dataset, known["key"], again=True)
        if found is None or not found.duplicates:
            return self._choose(ctx, known["key"])
        number = (ctx.panel.state.group or {}).get("number", 0)
        return shown_group(found, number if number in found.numbers else found.numbers[0])

    def _review(self, ctx: Any) -> Review:
        return review.loaded(ctx.dataset, ctx.panel.state.duplicates["key"])

    def draw_review(self, panel: Any, state: Any) -> None:
        """Draws a group side by side, with what can be decided."""
        group = state.group
        layout.head(panel, group["title"], self.on_back)
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
        shown = picture(member["image"])
        if shown is not None:
            box.str(
                "image",
                default=shown,
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
        return selected.view_of(found.dataset, found.patches_field, found.ids)
    samples = selected.all_samples(found.dataset).exists(review.FIELD)
    return samples.group_by(f"{review.FIELD}.group", order_by=f"{review.FIELD}.distance")


def _seen(ctx: Any) -> int:
    """Returns the group that the user saw, which another event may have changed meanwhile."""
    return int(ctx.params.get("group") or ctx.panel.state.group["number"])
