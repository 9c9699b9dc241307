"""Another dataset as reference: how this one differs, and what to take over from it."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus.curation import imports, two_samples
from fiftyone_milvus.curation.comparison import Comparison
from fiftyone_milvus.curation.imports import Imported
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.groups import IndexGroups
from fiftyone_milvus.index.search import IndexSearch
from fiftyone_milvus.index.writes import IndexWrites
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, nearest_others
from fiftyone_milvus.numbers import check_integer, check_text


class IndexReference(IndexGroups, IndexSearch, IndexWrites):
    """Compares an index with another one, and adds samples of it."""

    def compare_datasets(
        self,
        reference: Any,
        *,
        k: int = 10,
        size: int = 2_000,
        permutations: int = 999,
        seed: int = 0,
        progress: Any = None,
    ) -> Comparison:
        """Compares the samples, or patches, of the current :meth:`view` with a reference.

        *Drift* is one number, by the neighbors of samples that are drawn from both: 0 where they
        are from either as often as chance has it, 1 where nothing of one is near the other
        (:mod:`fiftyone_milvus.curation.two_samples`). A permutation test says how probable such a
        drift is by chance. *Novelty* is the distance of each sample to its nearest in the
        reference, exactly, from one read of the vectors. Nothing is written until you call
        :meth:`~fiftyone_milvus.curation.comparison.Comparison.save`.

        Example::

            found = index.compare_datasets(last_year.load_brain_results("similar"))
            print(found)
            session.view = found.view(100)  # what is new

        Args:
            reference: another index, of the same metric, dimension and model, of which the current
                view is compared; or a view of this dataset that shares no sample with this one
            k (10): how many neighbors of each sample count for the drift
            size (2000): how many samples are drawn for the drift, at most, of each
            permutations (999): how many random divisions the test compares with the true one
            seed (0): of what is drawn
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.comparison.Comparison`

        Raises:
            InvalidInputError: if an argument can't be used, or one of both has no vectors
        """
        k, size = check_integer("k", k), check_integer("size", size, low=2)
        permutations = check_integer("permutations", permutations)
        seed = check_integer("seed", seed, low=0)
        other = self._other(reference)
        (ids, stale, _), (other_ids, other_stale, _) = self._existing(), other._existing()
        self._check_apart(ids, other, other_ids)
        first, count = len(ids), len(ids) + len(other_ids)
        if not ids or not other_ids or count < 3:
            raise InvalidInputError(
                f"There are {first:,} samples with a vector and {len(other_ids):,} in the "
                "reference; pass parts of which each has some, and both together three"
            )
        with self._with_others(ids, other, other_ids, progress) as points:
            found, apart = nearest_others(
                points, np.arange(first), 1, among=np.arange(first, count), progress=progress
            )
            drawn = [_draw(low, high, size, seed) for low, high in ((0, first), (first, count))]
            with Vectors.of(points.rows(np.concatenate(drawn)), points.metric) as few:
                test = two_samples.compare(
                    few, len(drawn[0]), k=k, permutations=permutations, seed=seed
                )
        order = np.argsort(-apart[:, 0], kind="stable")
        return Comparison(
            test,
            (len(drawn[0]), len(drawn[1])),
            [ids[i] for i in order],
            apart[order, 0],
            [other_ids[at - first] for at in found[order, 0]],
            (first, len(other_ids)),
            stale + other_stale,
            self._samples._root_dataset,
            self.config.patches_field,
        )

    def import_similar(
        self,
        other: Any,
        query: Any = None,
        k: int | None = None,
        *,
        field: str = "imported_from",
        **search: Any,
    ) -> Imported:
        """Adds samples of another dataset that resemble a query, with their vectors.

        The new samples have the files, tags and metadata of those that were found, and ``field``,
        with ``dataset``, ``sample_id`` and ``distance``. Their vectors are copied, so nothing is
        embedded. Samples whose files this dataset has already are left out, and counted. If the
        vectors can't be added, the samples are removed again.

        Example::

            rare = dataset.match_tags("rare")
            print(index.import_similar(pool_index, rare, k=200))

        Args:
            other: the index of samples that is searched, of the same metric, dimension and model
            query (None): what :meth:`search` takes; samples, views and IDs are those of *this*
                dataset
            k (None): how many to search for; see :meth:`search`
            field ("imported_from"): the field for where a sample is from
            **search: other arguments of :meth:`search`: ``like``, ``unlike``, ``text``, ``image``,
                ``region``, ``weights``, and of what is searched: ``max_distance`` and ``filter``

        Returns:
            the :class:`fiftyone_milvus.curation.imports.Imported`

        Raises:
            InvalidInputError: if an argument can't be used, or one of the indexes is of patches or
                of a dataset with groups
        """
        dataset = self._samples._root_dataset
        name = check_text("field", field, what="the name of a field")
        limits = {n: search.pop(n) for n in ("max_distance", "filter") if n in search}
        self._check_import(other, name)
        vectors = self._question(query, search)
        found = other.search(vectors, k, **limits)
        known = set(dataset.values("filepath"))
        theirs = other._samples._root_dataset
        there = {s.id: s for s in theirs.select(found.sample_ids)}
        chosen: dict[str, tuple[Any, float]] = {}
        skipped = 0
        for sample_id, distance in zip(found.sample_ids, found.distances.tolist()):
            sample = there.get(sample_id)
            if sample is not None and sample.filepath in known:
                skipped += 1
            elif sample is not None:
                chosen.setdefault(sample.filepath, (sample, distance))
        samples = [sample for sample, _ in chosen.values()]
        distances = np.array([distance for _, distance in chosen.values()])
        if not samples:
            return Imported([], distances, skipped, dataset)
        # What was deleted since the search has no vector
        rows = other._collection.fetch([sample.id for sample in samples])
        at = {_id: i for i, _id in enumerate(rows.ids)}
        new = imports.copies(samples, theirs, str(name), distances.tolist())
        ids: list[str] = dataset.add_samples(new, progress=False)
        try:
            keep = [i for i, sample in enumerate(samples) if sample.id in at]
            embeddings = rows.vectors[[at[samples[i].id] for i in keep]]
            self.add_to_index(embeddings, [ids[i] for i in keep])
        except BaseException:
            dataset.delete_samples(ids)
            raise
        return Imported(ids, distances, skipped, dataset)

    def _question(self, query: Any, search: dict[str, Any]) -> Array:
        """Returns the vectors of a query of this dataset."""
        names = ("like", "unlike", "text", "image")
        given = {name: search.pop(name, None) for name in names}
        region, weights = search.pop("region", None), search.pop("weights", None)
        if search:
            raise InvalidInputError(
                f"Unsupported argument '{next(iter(search))}'; expected those of search(): "
                f"{', '.join(names)}, region, weights, max_distance, filter"
            )
        return self._read(query, given, region, weights, "mean", None)[0]

    def _check_import(self, other: Any, field: str | None) -> None:
        if not isinstance(other, IndexGroups):
            raise InvalidInputError(
                f"Invalid other {type(other).__name__}; expected an index, such as "
                "dataset.load_brain_results(brain_key)"
            )
        self._check_comparable(other)
        for index in (self, other):
            dataset = index._samples._root_dataset
            if index._patches or dataset.group_field is not None:
                what = "of patches" if index._patches else "of a dataset with groups"
                raise InvalidInputError(
                    f"Index '{index.key}' is {what}; only samples of datasets without groups can "
                    "be added to another dataset"
                )
        if other._samples._root_dataset.name == self._samples._root_dataset.name:
            raise InvalidInputError(
                "Both indexes are of the same dataset; pass an index of another one"
            )
        declared = self._samples._root_dataset.get_field(str(field))
        if declared is not None and not isinstance(declared, fo.EmbeddedDocumentField):
            raise InvalidInputError(
                f"Invalid field '{field}': it is a {type(declared).__name__} of the dataset; "
                "choose another name"
            )


def _draw(low: int, high: int, size: int, seed: int) -> Array:
    """Returns ascending positions, drawn without replacement."""
    generator = np.random.default_rng([seed, low])
    return np.sort(low + generator.choice(high - low, min(size, high - low), replace=False))
