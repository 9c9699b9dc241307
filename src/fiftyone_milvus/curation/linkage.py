"""Groups that do not chain: complete linkage of the pairs within a distance."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Pairs

MAX_PAIRS = 16_000_000
"""The most pairs that are grouped: 16 bytes each, and some 200 where they neither are one group."""


def collected(found: Iterable[Pairs]) -> Pairs:
    """Returns pairs in one piece.

    Args:
        found: pairs in parts

    Raises:
        InvalidInputError: if there are more than :data:`MAX_PAIRS`
    """
    parts: list[Pairs] = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))]
    number = 0
    for pairs in found:
        parts.append(pairs)
        number += len(pairs[0])
        if number > MAX_PAIRS:
            raise InvalidInputError(
                f"More than {MAX_PAIRS:,} pairs are within this thresh, too many to be duplicates; "
                "pass a smaller one, such as one that nearest_distances() suggests"
            )
    one, other, apart = (np.concatenate(part) for part in zip(*parts))
    return one, other, apart


def complete_linkage(count: int, pairs: Pairs, same: Sequence[Array] = ()) -> list[Array]:
    """Groups items of which every two are within a distance of each other.

    The two closest groups are joined, then the next, where the distance of two groups is that of
    their farthest items. So no two of the groups that are returned, and no group and no single
    item, could be joined without a pair that is too far apart. Ties go to the earlier items.

    Args:
        count: the number of items
        pairs: all pairs within the distance, each once, as positions and distances
        same ((),): arrays of positions that are joined first, whatever their distances

    Returns:
        an ascending int64 array of positions for each group of two or more, in the order of their
        first items
    """
    firsts = [np.full(len(positions), positions[0]) for positions in same]
    nothing = np.empty(0, np.int64)
    unit = _components(count, np.concatenate([nothing, *same]), np.concatenate([nothing, *firsts]))
    one, other, apart = _between(unit, *pairs)
    root = _components(count, one, other)
    groups: list[Array] = []
    for members, edges in _by_component(root, one, other):
        if len(edges) == len(members) * (len(members) - 1) // 2:
            groups.append(members)
        else:
            groups += _joined(one[edges], other[edges], apart[edges])
    if same:
        groups = _with_same(unit, groups)
    return sorted(groups, key=lambda group: int(group[0]))


def _between(unit: Array, one: Array, other: Array, apart: Array) -> Pairs:
    """The pairs of units of which all items are within the distance, and the largest distance."""
    a, b = unit[one], unit[other]
    low, high = np.minimum(a, b), np.maximum(a, b)
    if (unit == np.arange(len(unit))).all():
        return low, high, apart
    others = low != high
    low, high, apart = low[others], high[others], apart[others]
    sizes = np.bincount(unit, minlength=len(unit))
    order = np.lexsort((apart, high, low))
    low, high, apart = low[order], high[order], apart[order]
    last = np.flatnonzero(np.r_[(np.diff(low) != 0) | (np.diff(high) != 0), len(low) > 0])
    number = np.diff(np.r_[-1, last])
    last = last[number == sizes[low[last]] * sizes[high[last]]]
    return low[last], high[last], apart[last]


def _components(count: int, one: Array, other: Array) -> Array:
    """For each item, the first one that it is connected with."""
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root != root[root]).any():
            root = root[root]


def _by_component(root: Array, one: Array, other: Array) -> Iterator[tuple[Array, Array]]:
    """Yields the items and the pairs of each component that has pairs."""
    order = np.argsort(root[one], kind="stable")
    keys, starts = np.unique(root[one][order], return_index=True)
    items = np.unique(np.concatenate([one, other]))
    by_root = items[np.argsort(root[items], kind="stable")]
    first = np.searchsorted(root[by_root], keys, side="left")
    parts = zip(np.split(by_root, first[1:]), np.split(order, starts[1:]), strict=True)
    yield from parts if len(keys) else ()


def _joined(one: Array, other: Array, apart: Array) -> list[Array]:
    """The groups of one component."""
    near: dict[int, dict[int, float]] = {}
    for a, b, d in zip(one.tolist(), other.tolist(), apart.tolist()):
        near.setdefault(a, {})[b] = d
        near.setdefault(b, {})[a] = d
    members: dict[int, list[int]] = {item: [item] for item in near}
    # What was joined is a new group, so that older entries of it are recognized
    new = max(near) + 1
    order = np.lexsort((other, one, apart))
    singles = zip(*(column[order].tolist() for column in (apart, one, other, one, other)))
    later: list[tuple[float, int, int, int, int]] = []
    entry = next(singles, None)
    while entry is not None or later:
        if later and (entry is None or later[0] < entry):
            _, _, _, a, b = heapq.heappop(later)
        else:
            assert entry is not None
            _, _, _, a, b = entry
            entry = next(singles, None)
        if a not in near or b not in near:
            continue
        ours, theirs = near.pop(a), near.pop(b)
        items = sorted(members.pop(a) + members.pop(b))
        both = {c: max(d, theirs[c]) for c, d in ours.items() if c in theirs}
        for c in ours.keys() | theirs.keys():
            if c not in (a, b):
                near[c].pop(a, None)
                near[c].pop(b, None)
        members[new], near[new] = items, both
        for c, d in both.items():
            near[c][new] = d
            first, second = sorted((items[0], members[c][0]))
            heapq.heappush(later, (d, first, second, new, c))
        new += 1
    return [np.array(items) for items in members.values() if len(items) > 1]


def _with_same(unit: Array, groups: Sequence[Array]) -> list[Array]:
    """The groups of units as groups of items, and the units of several items that are in none."""
    order = np.argsort(unit, kind="stable")
    keys, starts = np.unique(unit[order], return_index=True)
    items = dict(zip(keys.tolist(), np.split(order, starts[1:]), strict=True))
    found = [np.sort(np.concatenate([items.pop(u) for u in g.tolist()])) for g in groups]
    return found + [alone for alone in items.values() if len(alone) > 1]
