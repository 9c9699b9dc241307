"""Views of every size: random ones, one that a query is in, and ones that it is far from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.vectors import Array, near, nearest
from benchmarks.world import World

SHARES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.999)


@dataclass(frozen=True)
class Case:
    """One view.

    Attributes:
        title: what it is
        view: the view
        inside: a boolean array, which rows are in it
        random: whether it has nothing to do with the queries
    """

    title: str
    view: Any
    inside: Array
    random: bool

    @property
    def share(self) -> float:
        """The share of the rows that are in it."""
        return float(self.inside.mean())


def queries_and_views(world: World, count: int) -> tuple[Array, list[Case]]:
    """Returns queries near some of the vectors, and the views to search, the dataset first."""
    from fiftyone import ViewField as F

    queries = near(world.vectors, count, seed=54)
    shares = np.array(world.dataset.values("share"))
    clusters = np.array(world.dataset.values("cluster"))
    cases = [Case("all", world.dataset, np.full(world.rows, True), random=True)]
    for share in SHARES:
        title = f"{share:.1%}".replace(".0", "")
        cases.append(Case(title, world.dataset.match(F("share") < share), shares < share, True))

    home = clusters[nearest(world.vectors, queries, 1)[:, 0]]
    at_home = np.isin(clusters, home)
    for title, inside in (
        ("around the queries", at_home),
        ("far, small", ~at_home & (clusters % 10 == 3)),
        ("far, large", ~at_home),
    ):
        chosen = sorted({int(c) for c in clusters[inside]})
        view = world.dataset.match(F("cluster").is_in(chosen))
        cases.append(Case(f"{title} ({inside.mean():.1%})", view, inside, False))
    return queries, cases
