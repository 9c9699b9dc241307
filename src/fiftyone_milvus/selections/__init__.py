"""Selections: which samples of an index to label, to review or to keep.

Each strategy says how much it wants each candidate. Candidates are chosen one after the other: each
time the one with the largest sum of what the strategies say, times their strengths. One strategy a
file; :mod:`.greedy` chooses.
"""

from __future__ import annotations

from fiftyone_milvus.selections.balanced import Balance, Balanced
from fiftyone_milvus.selections.candidates import Candidates, Reference
from fiftyone_milvus.selections.diverse import Diverse
from fiftyone_milvus.selections.greedy import choose
from fiftyone_milvus.selections.novel import Novel
from fiftyone_milvus.selections.selected import Selected
from fiftyone_milvus.selections.similar import Similar
from fiftyone_milvus.selections.strategy import Strategy
from fiftyone_milvus.selections.typical import Typical

__all__ = [
    "Balance", "Balanced", "Candidates", "Diverse", "Novel", "Reference", "Selected", "Similar",
    "Strategy", "Typical", "choose",
]  # fmt: skip
