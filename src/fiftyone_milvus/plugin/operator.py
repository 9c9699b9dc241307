"""The base class of the operators: config, form, errors in one line, and progress."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.dataset import availability
from fiftyone_milvus.plugin.jobs import Job, Outcome, running, start
from fiftyone_milvus.plugin.one_line import one_line

logger = logging.getLogger(__name__)

Report = Callable[[float | None, str], None]
"""Takes the share that is done, in [0, 1] or None, and what is being done."""

_NOT_TYPED = ("problem", "panel_id", "panel_state")
"""Parameters that the App adds, or that were not typed."""

PANEL = "panel"
"""The parameter with the ID of the panel that shows progress and result of the work."""

_TICK = 0.25
"""Seconds between two updates of a progress bar."""


@dataclass(frozen=True)
class Info:
    """How FiftyOne lists an operator.

    Attributes:
        name: its name in URIs
        title: what it does, in lower case
        icon: the name of a Material icon
        risk: ``"LOW"``, ``"MEDIUM"`` or ``"HIGH"``
        job: the title of its work in the panel, if a progress bar shows it; None for quick work
        reloads: whether the App reloads the dataset afterwards
    """

    name: str
    title: str
    icon: str
    risk: str
    job: str | None = None
    reloads: bool = False


class MilvusOperator(foo.Operator):
    """An operator: :meth:`form` asks, :meth:`run` works, :meth:`message` tells the result.

    The App describes it by the first line of its docstring.

    The App shows progress only if the operator is a generator. Python and delegated execution get
    a result only if it is a function. So :meth:`execute` returns either.
    """

    info: ClassVar[Info]

    @property
    def config(self) -> Any:
        """See the base class."""
        return foo.OperatorConfig(
            name=self.info.name,
            label=f"Milvus: {self.info.title}",
            description=(type(self).__doc__ or "").partition("\n")[0].rstrip("."),
            icon=self.info.icon,
            risk_level=self.info.risk,
            execute_as_generator=self.info.job is not None,
            dynamic=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Returns the form; see the base class."""
        inputs = types.Object()
        if ctx.params.get("problem"):
            inputs.view("problem_shown", types.Error(label=str(ctx.params["problem"])))
        with availability.answering():
            self.form(ctx, inputs)
        if ctx.params.get(PANEL):
            inputs.str(PANEL, view=types.HiddenView())
        return types.Property(inputs, view=types.View(label=f"Milvus: {self.info.title}"))

    def form(self, ctx: Any, inputs: Any) -> None:
        """Adds the inputs of the form to a :class:`fiftyone.operators.types.Object`."""
        raise NotImplementedError

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        """Does the work.

        Args:
            ctx: the :class:`fiftyone.operators.ExecutionContext`
            report: called with the progress

        Returns:
            the result for Python callers, as JSON types

        Raises:
            FiftyOneMilvusError: with a message for the user
        """
        raise NotImplementedError

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        """Returns a result in one line, and its variant: ``"success"``, ``"warning"``, ..."""
        raise NotImplementedError

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        """Yields calls that make the App show a result, such as ``ctx.ops.set_view(...)``."""
        if self.info.reloads:
            yield ctx.ops.reload_dataset()

    def execute(self, ctx: Any) -> Any:
        """Runs the operator; see the base class."""
        if self.info.job is not None and from_app(ctx):
            return self._in_panel(ctx) if ctx.params.get(PANEL) else self._stream(ctx)
        try:
            result = self._run(ctx, self._job(ctx), ctx.set_progress)
            if self.info.job is not None:
                ctx.set_progress(1, self.message(result)[0])
            # The calls are queued in ctx; the App makes them at the end
            _ = [*self._end(ctx, result)]
        except Exception as error:
            shown = one_line(error)
            if not from_app(ctx):
                raise shown from error
            logger.debug("%s failed", self.uri, exc_info=True)
            # The App would hide it in a traceback, and forget what was typed
            ctx.ops.notify(str(shown), variant="error")
            self.ask_again(ctx, str(shown))
            return {}
        return result

    def ask_again(self, ctx: Any, problem: str) -> Any:
        """Opens the form again, as it was typed, with the problem."""
        typed = {n: v for n, v in ctx.params.items() if n not in _NOT_TYPED}
        return ctx.prompt(self.uri, params={**typed, "problem": problem})

    def _job(self, ctx: Any) -> Job:
        title = self.info.job or str(self.config.label)
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), title)

    def _run(self, ctx: Any, job: Job, send: Callable[[Any, str], Any] | None = None) -> Any:
        """Runs as a job that the panel lists."""

        def report(progress: float | None, label: str) -> None:
            job.report(progress, label)
            if send is not None:
                send(progress, label)

        with availability.answering(), running(job):
            return self.run(ctx, report)

    def _in_panel(self, ctx: Any) -> Iterator[Any]:
        """Works for a panel, which shows progress and result; so the form closes at once.

        A progress bar would stay open until the user has closed it.
        """

        def work(job: Job) -> Outcome:
            result = self.run(ctx, job.report)
            text, variant = self.message(result)
            return Outcome(text, variant, follow_up=lambda event: [*self.follow_up(event, result)])

        again = self.name, dict(ctx.params)
        start(str(ctx.params[PANEL]), self._job(ctx), work, again=again)
        yield from ()

    def _stream(self, ctx: Any) -> Iterator[Any]:
        """Yields progress, while a thread works that goes on if the browser is closed."""
        job = self._job(ctx)
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append(self._run(ctx, job))
            except Exception as error:
                logger.debug("%s failed", self.uri, exc_info=True)
                outcome.append(error)

        thread = threading.Thread(target=work, name=self.name, daemon=True)
        thread.start()
        shown: tuple[float | None, str] = None, ""
        while thread.is_alive():
            thread.join(_TICK)
            if shown != (job.progress, job.label):
                shown = job.progress, job.label
                yield ctx.ops.set_progress(progress=shown[0], label=shown[1])
        try:
            (result,) = outcome
            if isinstance(result, Exception):
                raise result
            # Reloading the dataset closes a toast, but not the progress bar with its label
            yield ctx.ops.set_progress(progress=1, label=self.message(result)[0])
            yield from self._end(ctx, result)
        except Exception as error:
            # FiftyOne shows nothing of an error that a generator raises
            text = str(one_line(error))
            yield ctx.ops.notify(text, variant="error")
            yield self.ask_again(ctx, text)

    def _end(self, ctx: Any, result: dict[str, Any]) -> Iterator[Any]:
        text, variant = self.message(result)
        yield from self.follow_up(ctx, result)
        # Last, as reloading the dataset closes it
        yield ctx.ops.notify(text, variant=variant)


def from_app(ctx: Any) -> bool:
    """Returns whether the call comes from the App, which shows messages."""
    # Only the App names the operator in its request
    return "operator_uri" in (getattr(ctx, "request_params", None) or {}) and not ctx.delegated
