"""The events of the panel: what they have in common."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from fiftyone_milvus.dataset.availability import answering
from fiftyone_milvus.plugin import NAME
from fiftyone_milvus.plugin.jobs import Job, Outcome, jobs, outcomes, start
from fiftyone_milvus.plugin.one_line import one_line
from fiftyone_milvus.plugin.operator import PANEL
from fiftyone_milvus.plugin.panel import texts

logger = logging.getLogger(__name__)

State = dict[str, Any]

SHORT = 1.0
"""Seconds that an event waits for its work; what takes longer is shown as a job."""

_NO_CLICKS = ("tick", "on_load", "on_change_view")

_running: dict[object, tuple[str, State]] = {}
"""For each running event, its panel's ID and the changes of events that ended meanwhile."""

_lock = threading.Lock()


def event(handler: Callable[..., State]) -> Callable[..., None]:
    """Makes an event of a handler that returns changes of the panel's state.

    The App sends the state as it is when the event begins. Without the changes of events that ended
    meanwhile, a slow event would draw the panel without them: a refresh would remove the details,
    with the button that the user is about to click. An error becomes a line in the panel.

    Every event also shows how work of the panel ended, and which work is not done yet.
    """

    @functools.wraps(handler)
    def handle(self: Any, ctx: Any) -> None:
        running, state = object(), ctx.panel.state
        with _lock:
            _running[running] = (ctx.panel.id, {})
        # What the user has not seen yet stays until the next click
        unseen = handler.__name__ in _NO_CLICKS
        changes: State = {} if unseen else {"problem": "", "message": None, "again": None}
        try:
            with answering():
                changes |= handler(self, ctx)
                # First: what ends meanwhile is looked for again
                changes["jobs"] = texts.jobs(jobs(ctx.dataset_name))
                ended = outcomes(ctx.panel.id)
                for outcome in ended:
                    changes |= _shown(ctx, outcome)
                if ended:
                    changes |= self.read(ctx)
        except Exception as error:
            logger.debug("The Milvus panel failed", exc_info=True)
            changes["problem"] = str(one_line(error))
        finally:
            with _lock:
                panel_id, meanwhile = _running.pop(running)
                for name in ("problem", "message", "again"):
                    # The click was on what was shown before
                    if name in meanwhile and not changes.get(name):
                        changes.pop(name, None)
                for other_id, missed in _running.values():
                    if other_id == panel_id:
                        missed |= changes
        # In one call, and only if there are any, as the App draws the panel for each call
        new = {n: v for n, v in changes.items() if meanwhile.get(n, state.get(n)) != v}
        if meanwhile or new:
            state.set({**meanwhile, **new})

    return handle


def work(ctx: Any, key: str | None, title: str, what: Callable[[Job], Outcome]) -> State:
    """Starts work of the panel, and waits for it a moment; returns no changes.

    Args:
        ctx: the execution context of an event
        key: the brain key
        title: such as ``"Comparing"``
        what: does the work; see :func:`fiftyone_milvus.plugin.jobs.start`
    """
    start(ctx.panel.id, Job(ctx.dataset_name, key, title), what, seconds=SHORT)
    return {}


def prompt(self: Any, ctx: Any, operator: str, **params: Any) -> State:
    """Opens the form of an operator, whose work the panel shows; returns no changes."""
    given = {**params, PANEL: ctx.panel.id}
    ctx.prompt(f"{NAME}/{operator}", params=given, on_success=self.refresh)
    return {}


def is_view(ctx: Any) -> bool:
    """Whether the grid shows a view that is not the whole dataset."""
    return ctx.view is not None and ctx.view != ctx.dataset.view()


def _shown(ctx: Any, outcome: Outcome) -> State:
    if outcome.data:
        ctx.panel.data.set(outcome.data)
    if outcome.follow_up is not None:
        ctx.dataset.reload()
        outcome.follow_up(ctx)
    message = [outcome.variant, outcome.text] if outcome.text else None
    return {"message": message, **outcome.state}
