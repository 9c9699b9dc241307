"""A question of several parts: what the results should resemble, and what they should not.

The vector of a question is ``P + s * (P - N)``. ``P`` is the weighted mean of what the results
should resemble, ``N`` that of what they should not, and ``s`` the weight of the latter. For ``s =
1`` it is ``2 P - N``, as in FiftyOne's Similarity Search panel; with many weights, it is what
Rocchio's relevance feedback computes (Rocchio 1971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array, to_distances

UNLIKE = "unlike"
"""The argument of the parts that results should not resemble."""

_NOTHING = 1e-6


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a question.

    Attributes:
        argument: the argument of the search that it was given as, such as ``"like"``
        what: what it is, in a few words
        weight: at least 0, relative to those of the other parts that are liked; of what results
            should not resemble, how far to go away from it
        vector: a ``num_dims`` float64 array, the mean of :func:`normalized` vectors
    """

    argument: str
    what: str
    weight: float
    vector: Array


@dataclass(frozen=True, eq=False)
class Question:
    """What is searched for, put together from its parts.

    Attributes:
        parts: in the order in which they were given
        metric: the metric of the index

    Raises:
        InvalidInputError: if nothing, with a weight above 0, says what results should resemble
    """

    parts: tuple[Part, ...]
    metric: str

    def __post_init__(self) -> None:
        liked = [part.weight for part in self.parts if part.argument != UNLIKE]
        if not liked:
            raise InvalidInputError(
                "Only unlike is given; also give what the results should resemble (like, text, "
                "image or a query), or search with reverse=True"
            )
        if not sum(liked):
            raise InvalidInputError(
                "All weights of what the results should resemble are 0; give one of them a weight "
                "above 0"
            )

    @property
    def shares(self) -> list[float]:
        """The factor of each part in :attr:`vector`; negative for what results should not resemble.

        Their sum is 1.
        """
        liked = sum(part.weight for part in self.parts if part.argument != UNLIKE)
        unliked = sum(part.weight for part in self.parts if part.argument == UNLIKE)
        return [
            -part.weight if part.argument == UNLIKE else (1 + unliked) * part.weight / liked
            for part in self.parts
        ]

    @property
    def vector(self) -> Array:
        """What is searched for: a ``num_dims`` float64 array.

        Raises:
            InvalidInputError: if nothing remains of its parts, for metric cosine
        """
        shares = np.array(self.shares)
        vectors = np.stack([part.vector for part in self.parts])
        found: Array = shares @ vectors
        largest = (np.abs(shares) * np.linalg.norm(vectors, axis=1)).max()
        if self.metric == "cosine" and np.linalg.norm(found) <= _NOTHING * largest:
            raise InvalidInputError(
                "The parts of this question cancel each other out, so that no direction remains to "
                "search in; leave one of them out, or give other weights"
            )
        return found

    def lines(self) -> list[str]:
        """Returns a line for each part: its share, what it is, and its distance to the whole."""
        whole = self.vector
        return [
            f"  {share:+8.3f}   {part.argument:<8} {part.what}   distance {distance:.4g}"
            for part, share, distance in zip(
                self.parts,
                self.shares,
                (_distance(p.vector, whole, self.metric) for p in self.parts),
            )
        ]


def normalized(vectors: Array, metric: str) -> Array:
    """Returns vectors as they count in a question.

    Args:
        vectors: a ``num_vectors x num_dims`` array, without zero vectors if the metric is cosine
        metric: a key of :data:`fiftyone_milvus.metrics.METRICS`

    Returns:
        a float64 array of the same shape: of unit length for ``cosine``, which compares directions
        only, and as they are for ``euclidean`` and ``dotproduct``
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if metric != "cosine":
        return vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _distance(one: Array, other: Array, metric: str) -> float:
    if metric == "euclidean":
        score = float(np.square(one - other).sum())
    else:
        score = float(one @ other)
        if metric == "cosine":
            score /= float(np.linalg.norm(one) * np.linalg.norm(other)) or 1.0
    return float(to_distances(score, metric))
