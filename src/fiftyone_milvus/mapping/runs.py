"""Maps as brain runs: visualizations that FiftyOne and its App show without this package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.mapping.rows import Rows

METHODS = ("pca", "umap")
_RECORD = "milvus_map"
"""The attribute of a run's config that has what is needed to add to its map."""


@dataclass(frozen=True)
class StoredMap:
    """A map that a dataset has.

    Attributes:
        results: the :class:`fiftyone.brain.visualization.VisualizationResults`
        record: what :func:`save` stored with it
    """

    results: Any
    record: dict[str, Any]

    @property
    def method(self) -> str:
        """One of :data:`METHODS`."""
        return str(self.results.config.method)

    @property
    def rows(self) -> Rows:
        """The points of the map."""
        found = self.results
        return Rows(found.points, found.sample_ids, found.label_ids)

    def is_of(self, samples: Any, patches_field: str | None) -> bool:
        """Whether it shows a dataset or view, which may have other samples meanwhile."""
        own = self.results.config.patches_field == patches_field
        return own and _stages(self.results.samples) == _stages(samples)


def is_map(config: Any, index_key: str) -> bool:
    """Whether the config of a brain run is that of a map of an index."""
    return hasattr(config, _RECORD) and config.similarity_index == index_key


def load(dataset: Any, key: str, index_key: str | None) -> StoredMap | None:
    """Returns the map that a brain key names, or None if there is none yet.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        key: the brain key of the map
        index_key: the brain key of the index

    Raises:
        InvalidInputError: if the key can't be one, or names another run
    """
    if not isinstance(key, str) or not key.isidentifier():
        raise InvalidInputError(
            f"Invalid brain_key {shown(key)}; expected letters, digits and underscores, not "
            "starting with a digit"
        )
    if key not in dataset.list_brain_runs():
        return None
    config = dataset.get_brain_info(key).config
    if index_key is None or not is_map(config, index_key):
        raise InvalidInputError(
            f"Brain key '{key}' of dataset '{dataset.name}' is not a map of this index; pass "
            "another brain_key"
        )
    results = dataset.load_brain_results(key)
    return None if results is None else StoredMap(results, getattr(config, _RECORD))


def save(
    samples: Any,
    key: str | None,
    method: str,
    points: Rows,
    *,
    index_key: str | None,
    patches_field: str | None,
    seed: int,
    record: dict[str, Any],
) -> Any:
    """Stores a map, in place of an older one.

    Args:
        samples: the dataset or view that it shows
        key: the brain key of the map, or None not to store it
        method: one of :data:`METHODS`
        points: the points, as a ``num_points x 2`` float64 array
        index_key: the brain key of the index
        patches_field: the field of the patches, or None for samples
        seed: of the random numbers
        record: what is needed to add to it, as JSON

    Returns:
        the :class:`fiftyone.brain.visualization.VisualizationResults`
    """
    import fiftyone.brain.visualization as fbv  # slow: it imports scikit-learn

    make = {"pca": fbv.PCAVisualizationConfig, "umap": fbv.UMAPVisualizationConfig}[method]
    config = make(similarity_index=index_key, patches_field=patches_field, seed=seed, num_dims=2)
    setattr(config, _RECORD, record)
    dataset, run = samples._root_dataset, config.build()
    points_field = None
    if key is not None:
        if key in dataset.list_brain_runs():
            points_field = dataset.get_brain_info(key).config.points_field
            # The methods have configs of different classes, which FiftyOne does not replace
            dataset.delete_brain_run(key)
        run.register_run(samples, key, overwrite=False)
    results = fbv.VisualizationResults(
        samples,
        config,
        key,
        points.values,
        sample_ids=points.sample_ids,
        label_ids=points.label_ids,
    )
    run.save_run_results(samples, key, results)
    if points_field is not None:
        results.index_points(points_field)
    return results


def maps_of(dataset: Any, index_key: str) -> list[str]:
    """Returns the brain keys of the maps of an index, sorted."""
    keys = dataset.list_brain_runs(type="visualization", similarity_index=index_key)
    return [key for key in keys if is_map(dataset.get_brain_info(key).config, index_key)]


def rename(dataset: Any, index_key: str, new_key: str) -> None:
    """Records the new brain key of an index with its maps, which keep their own."""
    for key in maps_of(dataset, index_key):
        config = dataset.get_brain_info(key).config
        config.similarity_index = new_key
        run = config.build()
        run.update_run_config(dataset, key, config)
        if run.has_cached_run_results(dataset, key):
            run.load_run_results(dataset, key).config.similarity_index = new_key


def _stages(samples: Any) -> str:
    return json.dumps(samples.view()._serialize(include_uuids=False), default=str)
