"""What is said of samples or patches that a result leaves out."""

from __future__ import annotations

_NOTES = {
    "unsure": "were too unsure",
    "unlabeled": "have no label",
    "no_embedding": "are not in the index, sync() adds them",
    "unread_files": "files could not be read",
    "stale": "rows of deleted samples were left out, sync() removes them",
}


def noted(text: str, **counts: int) -> str:
    """Returns a text followed by notes on what was left out, in number by reason; none on 0."""
    notes = (f"{count:,} {_NOTES[name]}" for name, count in counts.items() if count)
    return "; ".join(filter(None, (text, *notes)))
