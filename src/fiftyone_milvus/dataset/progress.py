"""FiftyOne's progress bar, shown if ``fiftyone.config.show_progress_bars`` says so."""

from __future__ import annotations

from typing import Any


class ProgressBar:
    """A progress bar over a known number of rows.

    Args:
        total: the number of rows
        title: the text in front of the bar
        show: False to show nothing, for example for short work
        what ("vectors"): the unit that is counted
        progress (None): True, False, or a function as FiftyOne's progress bars take it; None for
            FiftyOne's own setting
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
        """Adds ``count`` finished rows."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)
