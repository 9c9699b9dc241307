"""What a way to search costs, for the planner to choose between ways.

Milliseconds, timed by hand on 2 shared cores with 100,000 x 512 vectors. What matters is where two
ways cost the same; ``index.explain(analyze=True)`` puts measured times beside these.
"""

from __future__ import annotations

from dataclasses import dataclass

_VIEW_READ = 0.8
"""One question to MongoDB."""

_VIEW_SCAN = 0.28e-3
"""Per sample that MongoDB looks at to find a view's IDs, without an index of its own."""

_VIEW_ID = 1.2e-3
"""Per ID that it returns."""

_CANDIDATE = 4.2e-3
"""Per candidate that MongoDB is asked about, which its ID index finds."""


@dataclass(frozen=True)
class Costs:
    """The costs of one collection, in milliseconds.

    Args:
        rows: of the collection
        dimension: of its vectors
        embedded: whether the embedded engine serves it, which scans; servers have an index
    """

    rows: int
    dimension: int
    embedded: bool

    def search(self, limit: int) -> float:
        """One unfiltered search for ``limit`` rows."""
        if self.embedded:
            return 1.2 + 1.6e-7 * self.rows * self.dimension + 3e-3 * limit
        return 2.6 + 7.5e-3 * limit

    def wide(self, limit: int) -> float:
        """An unfiltered search for ``limit`` candidates, and asking which are in the view."""
        return self.search(limit) + _VIEW_READ + _CANDIDATE * limit

    def read_ids(self, ids: int) -> float:
        """Reading the view's IDs from MongoDB."""
        return _VIEW_READ + _VIEW_SCAN * self.rows + _VIEW_ID * ids

    def by_ids(self, ids: int, parts: int = 1) -> float:
        """Ranking rows by their IDs, in so many requests."""
        if self.embedded:
            return 1.2 + (1e-3 + 1.6e-7 * self.dimension) * ids
        return 2.6 * parts + 5.5e-3 * ids

    def by_vectors(self, ids: int) -> float:
        """Reading the vectors of rows and ranking them here."""
        return 2.6 + (1.2e-2 + 4e-5 * self.dimension) * ids

    def condition(self, matches: int) -> float:
        """A search filtered by a condition on stored fields, which every row is tested for."""
        if self.embedded:
            return 1.2 + 2e-5 * self.rows + 1.6e-7 * matches * self.dimension
        return 2.6 + 5e-5 * self.rows
