"""Maps of an index."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from fiftyone_milvus import mapping
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.index.embeddings import BATCH_BYTES, IndexEmbeddings
from fiftyone_milvus.mapping import Anchors, Basis, Rows, StoredMap
from fiftyone_milvus.numbers import check_flag, check_integer
from fiftyone_milvus.syncing import difference
from fiftyone_milvus.syncing.expected_rows import Expected, read

logger = logging.getLogger(__name__)

_DRAWN = 10_000
_DRAWN_BYTES = 256 << 20
_DRAWN_PCA = 100_000
_EXACT_DIMS = 2_048
"""Above, the matrix of PCA is too large, and a smaller sample is taken as a whole."""

_MANY = 20_000
"""From so many on, a progress bar is shown, and all IDs of the index are compared."""


class IndexMap(IndexEmbeddings):
    """Draws maps."""

    def map(
        self,
        brain_key: str | None = None,
        method: str | None = None,
        samples: Any = None,
        *,
        seed: int = 51,
        update: bool = True,
        progress: Any = None,
    ) -> Any:
        """Draws the embeddings as points of a plane, similar ones close together.

        The map is a visualization of FiftyOne's: the Embeddings panel of the App shows it, and
        links it with the grid. The embeddings are read in parts, so a million need little more
        memory than their IDs.

        Called again, it adds what is new and removes what is gone, with the stored basis of the
        map, so that nothing else moves. It is computed again if ``method`` or ``samples`` are
        others than before, or the index was made again.

        Example::

            index.map()  # "similar_map", if the brain key of the index is "similar"
            session = fo.launch_app(dataset)  # choose it in the Embeddings panel

            dataset.add_samples(more)
            index.sync()
            index.map()  # adds the new ones

        Args:
            brain_key (None): the brain key of the map. By default, that of the index with ``_map``
            method (None): ``"pca"``, the two directions in which the embeddings differ most, which
                takes seconds; or ``"umap"``, which keeps neighbors together, takes minutes, and
                needs the package ``umap-learn``. Of many embeddings, a sample decides: 100,000 for
                PCA, and 10,000 for UMAP, which places the others amid their nearest neighbors in
                it. By default, that of the existing map, else ``"pca"``
            samples (None): the dataset or view to draw. By default, the current :meth:`view`
            seed (51): of the random numbers of UMAP, and of the sample
            update (True): whether to add to an existing map (True), or to compute it again (False)
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides

        Returns:
            the :class:`fiftyone.brain.visualization.VisualizationResults`. Its
            ``config.milvus_map`` is a dict with the numbers of ``"points"``, of those that are
            ``"new"`` and that were ``"removed"``, and of samples or patches that are ``"missing"``
            because the index has no embedding of them

        Raises:
            InvalidInputError: if an argument can't be used, the brain key names another run, the
                index has no embedding of ``samples``, or ``umap-learn`` is needed and not installed
        """
        if method is not None and method not in mapping.METHODS:
            raise InvalidInputError(
                f"Unsupported method {shown(method)}; expected one of {mapping.METHODS}"
            )
        seed = check_integer("seed", seed, low=0, high=2**32 - 1)
        update = check_flag("update", update)
        samples = self.view if samples is None else samples
        self._check_samples(samples)
        if brain_key is None and self.key is not None:
            brain_key = f"{self.key}_map"
        old = None
        if brain_key is not None:
            old = mapping.load(self._samples._root_dataset, brain_key, self.key)
        method = method or (old.method if old else "pca")
        if not (update and old and old.method == method and self._continues(old, samples)):
            old = None
        if method == "umap" and old is None:
            mapping.check_umap()
        expected = np.sort(read(samples, self.config.patches_field).keys)
        keys = self._present(expected)
        draw = self._by_pca if method == "pca" else self._by_umap
        points, record = draw(keys, old, seed, progress)
        before = set() if old is None else set(old.rows.keys.tolist())
        after = set(points.keys.tolist())
        counts = {
            "points": len(after),
            "new": len(after - before),
            "removed": len(before - after),
            "missing": len(expected) - len(after),
        }
        what = "patches" if self._patches else "samples"
        logger.info(
            "Map '%s': %d %s by %s, %d new, %d removed%s",
            brain_key,
            counts["points"],
            what,
            method.upper(),
            counts["new"],
            counts["removed"],
            f"; {counts['missing']} {what} have no embedding in the index, sync() adds them"
            if counts["missing"]
            else "",
        )
        return mapping.save(
            samples,
            brain_key,
            method,
            points,
            index_key=self.key,
            patches_field=self.config.patches_field,
            seed=seed,
            record={**record, **counts, "index_made": self._made()},
        )

    def _continues(self, old: StoredMap, samples: Any) -> bool:
        """Whether a map is one of the same samples, and of the vectors that the index has now."""
        if not old.is_of(samples, self.config.patches_field):
            return False
        return old.record.get("index_made") == self._made() and self._collection.present()

    def _made(self) -> str | None:
        """When the index was made, which changes if it is made again with another model."""
        if self.key is None:
            return None
        return str(self._samples._root_dataset.get_brain_info(self.key).timestamp)

    def _present(self, keys: IdArray) -> IdArray:
        """Returns those of some keys that the index has.

        Raises:
            InvalidInputError: if it has none of them
        """
        if self._collection.present() and len(keys):
            few, target = len(keys) < _MANY, Expected(keys, keys)
            if few:
                compared = difference.look_up(self._collection, target)
            else:
                compared = difference.compare(self._collection, target, patches=self._patches)
            keys = keys[compared.present]
            if len(keys):
                return keys
        what = "patches" if self._patches else "samples"
        raise InvalidInputError(
            f"The index has no embedding of these {what}, so there is nothing to draw; call sync() "
            "first, or pass other samples"
        )

    def _by_pca(
        self, keys: IdArray, old: StoredMap | None, seed: int, progress: Any
    ) -> tuple[Rows, dict[str, Any]]:
        dimension = self._collection.layout.dimension
        basis = None if old is None else Basis.from_text(old.record["basis"])
        if basis is None or len(basis.mean) != dimension:
            exact = dimension <= _EXACT_DIMS
            drawn = _draw(keys, _DRAWN_PCA if exact else self._most_drawn(), seed)
            parts = self._embeddings(drawn, "Computing the map", progress)
            if exact:
                basis = mapping.fit(part.values for part in parts)
            else:
                basis = mapping.fit_all(mapping.join(parts).values, seed)
        # All of them, as embeddings may have changed
        parts = self._embeddings(keys, "Placing the points", progress)
        points = mapping.join(mapping.placed(parts, basis.project))
        return points, {"basis": basis.to_text()}

    def _by_umap(
        self, keys: IdArray, old: StoredMap | None, seed: int, progress: Any
    ) -> tuple[Rows, dict[str, Any]]:
        if old is None:
            some = _draw(keys, self._most_drawn(), seed)
            drawn = mapping.join(self._embeddings(some, "Drawing a sample", progress))
            logger.info("Laying out %d embeddings by UMAP...", len(drawn.keys))
            points = drawn._replace(values=mapping.lay_out(drawn.values, seed))
            anchors, count = Anchors(drawn.values, points.values), len(drawn.keys)
        else:
            # What has a place keeps it, as its neighbors do
            kept = np.isin(_ids(old.rows), keys)
            points, count = old.rows.take(kept), int(kept[: old.record["anchors"]].sum())
            if count < mapping.LEAST:
                mapping.check_umap()
                return self._by_umap(keys, None, seed, progress)
            anchors = self._anchors(points.take(np.arange(count)))
        keys = keys[~np.isin(keys, _ids(points))]
        found = [points]
        if len(keys):
            parts = self._embeddings(keys, "Placing the points", progress)
            found += mapping.placed(parts, anchors.project)
        if old is not None and len(keys) > count:
            logger.warning(
                "%d new points are placed among %d by UMAP; map(update=False) lays out all again",
                len(keys),
                count,
            )
        return mapping.join(found), {"anchors": count}

    def _anchors(self, points: Rows) -> Anchors:
        """Returns points of a map with the embeddings that they have now."""
        rows = mapping.join(self._embeddings(_ids(points), "Reading", False))
        places = dict(zip(points.keys.tolist(), points.values))
        return Anchors(rows.values, np.stack([places[key] for key in rows.keys.tolist()]))

    def _most_drawn(self) -> int:
        return max(1, min(_DRAWN, _DRAWN_BYTES // (4 * self._collection.layout.dimension)))

    def _embeddings(self, keys: IdArray, title: str, progress: Any) -> Iterator[Rows]:
        """Yields the embeddings with some keys, in their order; under cosine, of length 1."""
        size = max(1, BATCH_BYTES // (4 * self._collection.layout.dimension))
        batches = (keys[i : i + size] for i in range(0, len(keys), size))
        show = len(keys) >= _MANY
        with ProgressBar(len(keys), title, show=show, progress=progress) as bar:
            for rows in self._collection.fetch_pages(map(object_ids.to_strings, batches)):
                if rows.ids:
                    found = Rows(*self._arrays(rows))
                    if self.config.metric == "cosine":
                        lengths = np.linalg.norm(found.values, axis=1, keepdims=True)
                        found = found._replace(values=found.values / lengths)
                    yield found
                    bar.update(len(rows.ids))


def _draw(keys: IdArray, count: int, seed: int) -> IdArray:
    """Returns so many of some keys, each with the same probability, in their order."""
    if len(keys) <= count:
        return keys
    chosen = np.random.default_rng(seed).choice(len(keys), count, replace=False)
    return keys[np.sort(chosen)]


def _ids(rows: Rows) -> IdArray:
    return object_ids.from_strings(rows.keys.tolist())[0]
