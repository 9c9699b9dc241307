"""Selects samples of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import fiftyone.core.collections as foc
import numpy as np
from bson import ObjectId

from fiftyone_milvus import selections
from fiftyone_milvus.errors import DimensionMismatchError, InvalidInputError, shown
from fiftyone_milvus.index import asked
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.index.embeddings import IndexEmbeddings
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import check_integer, check_text
from fiftyone_milvus.search import stored_distances
from fiftyone_milvus.selections import Candidates, Diverse, Reference, Selected, Strategy

_MEASURED = 10_000
"""Candidates of which the distance to the nearest chosen one is returned."""


class IndexSelections(IndexBase):
    """Selects samples."""

    def select(
        self,
        n: int,
        strategies: Strategy | Sequence[Strategy] | None = None,
        *,
        seed: int = 0,
        field: str | None = None,
        progress: Any = None,
    ) -> Selected:
        """Selects samples or patches, for example to label or to review, and says why.

        Chooses in the current :meth:`view`. The candidate that the strategies want most is chosen,
        one after the other: the one with the largest sum of their scores, of about 0 to 1 each,
        times their strengths. Equal candidates are ordered by the seed. The vectors are read once;
        beyond 1 GB, they are in a temporary file. Writes nothing, unless a field is given.

        Example::

            from fiftyone_milvus.selections import Balanced, Diverse, Novel

            labeled = dataset.match_tags("labeled")
            chosen = index.select(100, [Diverse(), Novel(labeled, strength=0.5)])
            session.view = chosen.view()

        Args:
            n: how many to select; if there are fewer, all are selected
            strategies (None): one of :mod:`fiftyone_milvus.selections`, or a list of them; by
                default, ``Diverse()``
            seed (0): of whatever is drawn; the same index, seed and arguments select the same
            field (None): the name of a float field in which to store the rank of each, from 1
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides

        Returns:
            a :class:`fiftyone_milvus.selections.selected.Selected`

        Raises:
            InvalidInputError: if an argument can't be used
            MissingIDsError: if a reference is an ID that is not in the index
        """
        n, seed = check_integer("n", n), check_integer("seed", seed, low=0)
        field = check_text("field", field, what="the name of a field")
        if field is not None:
            stored_distances.check(self.view, self.config.patches_field, field, "field")
        chosen_by = _strategies(strategies)
        ids = self._current_ids()
        with self._vectors(ids, progress) as vectors:
            candidates = Candidates(
                ids, vectors, min(n, len(ids)), seed, self._reference,
                lambda path: self._values(path, ids), progress,
            )  # fmt: skip
            scores = [one.prepare(candidates) for one in chosen_by] if ids else []
            strengths = [one.strength for one in chosen_by]
            choices = selections.choose(candidates, scores, strengths)
            rows = np.array([choice.row for choice in choices], dtype=np.int64)
            distances = self._distances(candidates, rows)
        counts = {
            f"{strategy.field}": {
                name: (int(chosen), int(total))
                for name, chosen, total in zip(one.names, one.chosen, one.all)
            }
            for strategy, one in zip(chosen_by, scores)
            if isinstance(strategy, selections.Balanced) and isinstance(one, selections.Balance)
        }
        names = _names(chosen_by)
        keys = [ids[row] for row in rows]
        found = Selected(
            self._samples_of(keys),
            keys if self._patches else None,
            [dict(zip(names, choice.reasons)) for choice in choices],
            np.array([choice.score for choice in choices]),
            distances,
            counts,
            len(ids),
            seed,
            self.view,
            self.config.patches_field,
        )
        if field is not None and len(found):
            found.store(field)
        return found

    def _distances(self, candidates: Candidates, rows: Any) -> Any:
        """Returns the ascending distances of some candidates to the nearest chosen one."""
        if not len(rows):
            return np.empty(0)
        vectors = candidates.vectors
        chosen = Vectors.of(vectors.rows(rows), vectors.metric)
        drawn = candidates.draw(_MEASURED)
        _, nearest = candidates.nearest(chosen, drawn)
        return np.sort(vectors.distances(drawn, rows[nearest]))

    def _samples_of(self, ids: list[str]) -> list[str]:
        if not self._patches or not ids:
            return ids
        owners = self._collection.existing(ids)
        return self._lookup.with_samples(ids, [owners.get(i, i) for i in ids])[1]

    def _reference(self, given: Any) -> Reference:
        metric, dimension = self.config.metric, self._collection.layout.dimension
        if isinstance(given, IndexEmbeddings):
            own = given.config.collection_name == self.config.collection_name
            if own and given.connection.target == self.connection.target:
                ids = given._current_ids()
                return Reference(self._vectors(ids), ids)
            if not given._collection.present() or not given.index_size:
                raise InvalidInputError(f"The reference, index '{given.key}', has no vectors")
            if given._collection.layout.dimension != dimension:
                raise DimensionMismatchError(
                    f"The reference, index '{given.key}', has {given._collection.layout.dimension} "
                    f"dimensions, but this index has {dimension}; use an index of the same model"
                )
            size = given.index_size
            vectors, at = Vectors(size, dimension, metric), 0
            for part, _, _ in given.iter_embeddings():
                part = part[: size - at]
                vectors.fill(at, part)
                at += len(part)
            if not at:
                raise InvalidInputError(f"The reference, index '{given.key}', has no vectors")
            if at < size:  # some were removed meanwhile
                vectors.fill(at, np.repeat(vectors.rows(slice(0, 1)), size - at, axis=0))
            return Reference(vectors)
        found = asked.texts(asked.read(self, given, files=True))
        if asked.are_ids(found):
            each = [found] if isinstance(found, (str, ObjectId)) else found
            ids = list(dict.fromkeys(str(i) for i in each))
            if not ids:
                raise InvalidInputError("The reference is empty; pass samples, IDs or vectors")
            # A view may have samples that were not embedded
            there = self._collection.existing(ids)
            if not there or not isinstance(given, foc.SampleCollection):
                self._lookup.check_missing(ids, there, False, False)
            ids = [i for i in ids if i in there]
            return Reference(self._vectors(ids), ids)
        return Reference(Vectors.of(asked.vectors(self, found), metric))

    def _values(self, path: str, ids: Sequence[str]) -> list[Any]:
        dataset, name = self._samples._root_dataset, self.config.patches_field
        if name is not None:
            label_path = dataset._get_label_field_path(name, path)[1]
            if dataset.get_field(label_path) is not None:
                id_path = dataset._get_label_field_path(name, "id")[1]
                table = dict(_pairs(*dataset.values([id_path, label_path])))
                return [table.get(i) for i in ids]
        if dataset.get_field(path) is None:
            raise InvalidInputError(
                f"Dataset '{dataset.name}' has no field '{path}' to balance; pass one that it has, "
                "such as 'ground_truth.label'"
            )
        table = dict(zip(*dataset.values(["id", path])))
        return [table.get(i) for i in self._samples_of(list(ids))]


def _pairs(ids: Any, values: Any) -> Iterator[tuple[str, Any]]:
    """Yields the ID and the value of each label, of lists in lists of the same shape."""
    if isinstance(ids, list):
        for one, value in zip(ids, values or ()):
            yield from _pairs(one, value)
    elif ids is not None:
        yield ids, values


def _strategies(given: Any) -> list[Strategy]:
    if given is None:
        return [Diverse()]
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    for one in found:
        if not isinstance(one, Strategy):
            raise InvalidInputError(
                f"Invalid strategy {shown(one)}; expected those of fiftyone_milvus.selections, "
                "such as Diverse()"
            )
    if not found or not any(one.strength for one in found):
        raise InvalidInputError(
            "There is no strategy with a strength above 0; pass one, such as Diverse()"
        )
    return found


def _names(strategies: Sequence[Strategy]) -> list[str]:
    """Returns a name for each strategy, with a number where one is used more than once."""
    names: list[str] = []
    for one in strategies:
        count = sum(name.split(" ")[0] == one.name for name in names)
        names.append(f"{one.name} {count + 1}" if count else one.name)
    return names
