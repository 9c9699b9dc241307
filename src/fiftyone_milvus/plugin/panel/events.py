"""What all events of the panel have in common."""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fiftyone.operators.panel import PanelRefBase

from fiftyone_milvus.dataset.availability import answering
from fiftyone_milvus.plugin import NAME
from fiftyone_milvus.plugin.jobs import Job, Outcome, jobs, outcomes, start
from fiftyone_milvus.plugin.one_line import one_line
from fiftyone_milvus.plugin.operator import PANEL
from fiftyone_milvus.plugin.panel import texts
from fiftyone_milvus.plugin.places import digest

logger = logging.getLogger(__name__)

State = dict[str, Any]

SHORT = 1.0
"""Seconds that an event waits for its work; what takes longer is shown as a job."""

_NO_CLICKS = ("tick", "on_load", "on_change_view")

_ON_THE_WAY = 10.0
"""Seconds in which the browser has surely got an answer."""

_Panel = tuple[str, str]

_running: Counter[_Panel] = Counter()
"""The events of each panel, of a dataset, that run now."""

_ended: list[tuple[float, _Panel, State]] = []
"""When the last events ended, and what they changed."""

_lock = threading.Lock()


def event(handler: Callable[..., State]) -> Callable[..., None]:
    """Makes an event of a handler that returns changes of the panel's state.

    The App sends the state as it is when the event begins. Changes of other events that it does not
    have yet are added: those of events whose answer is on the way, and those of events that end
    meanwhile. Else a slow event would draw the panel without them: a refresh would remove the
    details, with the button that the user is about to click. An error becomes a line in the panel.

    Every event also shows how work of the panel ended, and which work is not done yet.
    """

    @functools.wraps(handler)
    def handle(self: Any, ctx: Any) -> None:
        state, panel = ctx.panel.state, (ctx.panel.id, ctx.dataset_name)
        begun = time.monotonic()
        with _lock:
            _running[panel] += 1
            missed = _missed(panel, begun - _ON_THE_WAY, state)
        # Only here: the browser is told below, with the rest
        PanelRefBase.set(state, missed)
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
                missed |= _missed(panel, begun, state)
                for name in ("problem", "message", "again"):
                    # The click was on what was shown before
                    if name in missed and not changes.get(name):
                        changes.pop(name, None)
                _running[panel] -= 1
                others = _running[panel]
                if not others:
                    del _running[panel]
                _ended.append((time.monotonic(), panel, changes.copy()))
            # The browser may get answers in another order: so it always looks once more
            settled = handler.__name__ == "tick" and not others and not missed
            changes["unsettled"] = None if settled else True
        # In one call, and only if there are any, as the App draws the panel for each call
        new = {n: v for n, v in changes.items() if missed.get(n, state.get(n)) != v}
        if missed or new:
            state.set({**missed, **new})

    return handle


def _missed(panel: _Panel, since: float, state: Any) -> State:
    """Returns what events that ended since then have changed, and a state does not have."""
    oldest = time.monotonic() - 2 * _ON_THE_WAY
    _ended[:] = [one for one in _ended if one[0] > oldest or _running[one[1]]]
    changes: State = {}
    for ended, owner, changed in _ended:
        if owner == panel and ended > since:
            changes |= changed
    return {name: value for name, value in changes.items() if not _same(state.get(name), value)}


def _same(sent: Any, value: Any) -> bool:
    """Whether the App has a value: it makes lists of tuples."""
    one, other = (json.dumps(it, sort_keys=True, default=str) for it in (sent, value))
    return one == other


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


def seen_view(ctx: Any) -> str:
    """Returns a digest of the view in the grid and of the sidebar's filters."""
    asked = [ctx.request_params.get(name) for name in ("view", "view_name", "filters", "extended")]
    return digest(asked)


def _shown(ctx: Any, outcome: Outcome) -> State:
    if outcome.data:
        ctx.panel.data.set(outcome.data)
    if outcome.follow_up is not None:
        ctx.dataset.reload()
        outcome.follow_up(ctx)
    message = [outcome.variant, outcome.text] if outcome.text else None
    return {"message": message, **outcome.state}
