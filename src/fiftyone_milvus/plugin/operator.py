"""What the operators share: errors that reach the user, and progress wherever it can be shown."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import fiftyone.operators as foo

from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.plugin.jobs import Job, running

logger = logging.getLogger(__name__)

Report = Callable[[float | None, str], None]
"""Told how much is done, in [0, 1] or None, and what is being done."""

_TICK = 0.25
"""Seconds between two updates of a progress bar."""


class MilvusOperator(foo.Operator):
    """An operator that works in :meth:`run`; :meth:`told` and :meth:`then` say what came of it.

    Called from the App it may show progress, which FiftyOne takes from generators only; from
    Python, and delegated, it returns a result, which FiftyOne takes from functions only.
    """

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        """Does the work.

        Args:
            ctx: the :class:`fiftyone.operators.ExecutionContext`
            report: told of the progress

        Returns:
            what Python callers get, as JSON types

        Raises:
            FiftyOneMilvusError: which the user is shown
        """
        raise NotImplementedError

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        """Returns what the user is told of a result, and how: ``"success"``, ``"warning"``, ..."""
        raise NotImplementedError

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        """Yields what the App is to do about a result, as ``ctx.ops.set_view(...)``."""
        return ()

    def job(self, ctx: Any) -> Job:
        """Returns the job as which the panel lists a run."""
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), str(self.config.label))

    def execute(self, ctx: Any) -> Any:
        """Runs the operator; see the base class."""
        if self.config.execute_as_generator and from_app(ctx):
            return self._stream(ctx)
        try:
            with running(self.job(ctx)) as job:
                result = self.run(ctx, _reporting(job, lambda p, s: ctx.set_progress(p, s)))
            # The App does what was yielded when all is done
            for _ in self._end(ctx, result):
                pass
        except Exception as error:
            shown = one_line(error)
            if from_app(ctx):
                # The App folds what an operator raises into a traceback under "Error occurred"
                ctx.ops.notify(str(shown), variant="error")
            raise shown from error
        return result

    def _stream(self, ctx: Any) -> Iterator[Any]:
        """Runs in a thread, which goes on if the browser goes away, and yields what it reports."""
        reports: queue.SimpleQueue[tuple[float | None, str] | None] = queue.SimpleQueue()
        outcome: list[Any] = []

        def work() -> None:
            try:
                with running(self.job(ctx)) as job:
                    outcome.append(self.run(ctx, _reporting(job, lambda p, s: reports.put((p, s)))))
            except Exception as error:
                logger.debug("%s failed", self.uri, exc_info=True)
                outcome.append(one_line(error))
            finally:
                reports.put(None)

        thread = threading.Thread(target=work, name=self.name, daemon=True)
        thread.start()
        while (report := _latest(reports)) is not None:
            yield ctx.ops.set_progress(progress=report[0], label=report[1])
        thread.join()
        (result,) = outcome
        if isinstance(result, Exception):
            # FiftyOne shows nothing of an error that a generator raises
            yield ctx.ops.set_progress(progress=1, label=str(result))
            yield ctx.ops.notify(str(result), variant="error")
            return
        # A toast does not survive that the App reloads the dataset; the progress bar's label does
        try:
            yield ctx.ops.set_progress(progress=1, label=self.told(result)[0])
            yield from self._end(ctx, result)
        except Exception as error:
            yield ctx.ops.set_progress(progress=1, label=str(one_line(error)))
            yield ctx.ops.notify(str(one_line(error)), variant="error")

    def _end(self, ctx: Any, result: dict[str, Any]) -> Iterator[Any]:
        text, variant = self.told(result)
        yield ctx.ops.notify(text, variant=variant)
        yield from self.then(ctx, result)


def one_line(error: Exception) -> Exception:
    """Returns an error whose text is one line that a user can read."""
    if isinstance(error, FiftyOneMilvusError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return ValueError(text)
    return RuntimeError(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def from_app(ctx: Any) -> bool:
    """Returns whether the App calls, and waits for messages."""
    # The App names the operator in its request; Python and the delegate do not wait for messages
    return "operator_uri" in (getattr(ctx, "request_params", None) or {}) and not ctx.delegated


def _reporting(job: Job, tell: Callable[[float | None, str], Any]) -> Report:
    def report(progress: float | None, label: str) -> None:
        job.progress, job.label = progress, label
        tell(progress, label)

    return report


def _latest(reports: queue.SimpleQueue[Any]) -> Any:
    """Returns the newest report, one per tick at most, or None at the end."""
    newest = reports.get()
    until = time.monotonic() + _TICK
    with suppress(queue.Empty):
        while newest is not None and (left := until - time.monotonic()) > 0:
            newest = reports.get(timeout=left)
    return newest
