"""Estimates what each plan costs on a server, so that the planner can choose the cheapest.

``python -m benchmarks --engine server --only planning`` measures the constants and prints them
beside these. They are milliseconds on 2 cores with 100,000 x 512 vectors; the planner needs them
only as precisely as it must to tell which of two plans is faster.
"""

from __future__ import annotations

from dataclasses import dataclass

REQUEST = 2.6
"""Milliseconds for one request to the server."""

HIT = 7.5e-3
"""Milliseconds per row that an unfiltered search returns."""

LISTED_ID = 5.5e-3
"""Milliseconds per primary key in a filter."""

TESTED_ROW = 5e-5
"""Milliseconds per row for which a condition is evaluated."""

READ_VECTOR = 1.2e-2
"""Milliseconds per vector that is read, besides its numbers."""

READ_NUMBER = 4e-5
"""Milliseconds per number of a vector that is read."""

VIEW_REQUEST = 0.8
"""Milliseconds for one request to MongoDB."""

VIEW_SCAN = 0.28e-3
"""Milliseconds per sample that MongoDB scans to find the IDs of a view."""

VIEW_ID = 1.2e-3
"""Milliseconds per ID that MongoDB returns."""

CANDIDATE = 4.2e-3
"""Milliseconds per candidate that MongoDB looks up in a view."""


@dataclass(frozen=True)
class Costs:
    """The costs of one collection on a server, in milliseconds.

    Attributes:
        rows: the number of rows of the collection
        dimension: the dimension of its vectors
    """

    rows: int
    dimension: int

    def search(self, limit: int) -> float:
        """Estimates one unfiltered search.

        Args:
            limit: the number of rows to return

        Returns:
            milliseconds
        """
        return REQUEST + HIT * limit

    def wide(self, limit: int) -> float:
        """Estimates an unfiltered search, and finding out which rows are in the view.

        Args:
            limit: the number of candidates

        Returns:
            milliseconds
        """
        return self.search(limit) + VIEW_REQUEST + CANDIDATE * limit

    def read_ids(self, ids: int) -> float:
        """Estimates reading the view's IDs from MongoDB.

        Args:
            ids: the number of IDs in the view

        Returns:
            milliseconds
        """
        return VIEW_REQUEST + VIEW_SCAN * self.rows + VIEW_ID * ids

    def by_ids(self, ids: int, requests: int = 1) -> float:
        """Estimates a search among primary keys.

        Args:
            ids: the number of keys
            requests (1): the number of requests among which the keys are divided

        Returns:
            milliseconds
        """
        return REQUEST * requests + LISTED_ID * ids

    def by_vectors(self, ids: int) -> float:
        """Estimates reading the vectors of rows and ranking them here.

        Args:
            ids: the number of rows

        Returns:
            milliseconds
        """
        return REQUEST + (READ_VECTOR + READ_NUMBER * self.dimension) * ids

    def condition(self) -> float:
        """Estimates a search filtered by a condition, which is evaluated for every row.

        Returns:
            milliseconds
        """
        return REQUEST + TESTED_ROW * self.rows
