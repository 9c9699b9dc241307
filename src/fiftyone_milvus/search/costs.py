"""Estimates what each plan costs on a server, so that the planner can choose the cheapest.

``python -m benchmarks --engine server --only planning`` measures the constants and prints them
beside these. They are milliseconds on 2 cores with 100,000 x 512 vectors; the planner needs them
only as precisely as it must to tell which of two plans is faster.
"""

from __future__ import annotations

from dataclasses import dataclass

REQUEST = 2.6
"""One request to the server."""

HIT = 7.5e-3
"""Per row that an unfiltered search returns."""

LISTED_ID = 5.5e-3
"""Per primary key in a filter."""

TESTED_ROW = 5e-5
"""Per row for which a condition is evaluated."""

READ_VECTOR = 1.2e-2
"""Per vector that is read, besides its numbers."""

READ_NUMBER = 4e-5
"""Per number of a vector that is read."""

VIEW_REQUEST = 0.8
"""One request to MongoDB."""

VIEW_SCAN = 0.28e-3
"""Per sample that MongoDB scans to find the IDs of a view."""

VIEW_ID = 1.2e-3
"""Per ID that it returns."""

CANDIDATE = 4.2e-3
"""Per candidate that MongoDB looks up in a view."""


@dataclass(frozen=True)
class Costs:
    """The costs of one collection on a server, in milliseconds.

    Attributes:
        rows: of the collection
        dimension: of its vectors
    """

    rows: int
    dimension: int

    def search(self, limit: int) -> float:
        """One unfiltered search for ``limit`` rows."""
        return REQUEST + HIT * limit

    def wide(self, limit: int) -> float:
        """An unfiltered search for ``limit`` candidates, and which of them are in the view."""
        return self.search(limit) + VIEW_REQUEST + CANDIDATE * limit

    def read_ids(self, ids: int) -> float:
        """Reading the view's IDs from MongoDB."""
        return VIEW_REQUEST + VIEW_SCAN * self.rows + VIEW_ID * ids

    def by_ids(self, ids: int, requests: int = 1) -> float:
        """Searching among primary keys, divided among ``requests``."""
        return REQUEST * requests + LISTED_ID * ids

    def by_vectors(self, ids: int) -> float:
        """Reading the vectors of rows and ranking them here."""
        return REQUEST + (READ_VECTOR + READ_NUMBER * self.dimension) * ids

    def condition(self) -> float:
        """A search filtered by a condition, which is evaluated for every row."""
        return REQUEST + TESTED_ROW * self.rows
