"""FiftyOne's own progress bar, shown as ``fiftyone.config.show_progress_bars`` says."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class ProgressBar:
    """A progress bar over a known number of rows.

    Args:
        total: the number of rows
        title: what is being done
        show: False to show nothing, as for work that takes a moment
        what: what is counted
        progress: whether to show it where it is shown; None for FiftyOne's own setting
    """

    def __init__(
        self,
        total: int,
        title: str,
        *,
        show: bool,
        what: str = "vectors",
        progress: bool | None = None,
    ) -> None:
        self._bar: Any = None
        if show:
            import fiftyone.core.utils as fou

            self._bar = fou.ProgressBar(
                total=total, progress=progress, iters_str=what, start_msg=f"{title}..."
            )

    def update(self, count: int) -> None:
        """Says that ``count`` more rows are done."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)
