"""Indexes of stored runs, opened without changing what FiftyOne keeps of them."""

from __future__ import annotations

from typing import Any

from fiftyone.core.brain import BrainMethod

from fiftyone_milvus.backend import MilvusSimilarity, MilvusSimilarityConfig
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex


def keys(dataset: Any) -> list[str]:
    """Returns the brain keys of a dataset's Milvus indexes, in the order of the runs.

    Runs of FiftyOne's built-in ``milvus`` backend are not among them.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
    """
    return [key for key in dataset.list_brain_runs() if config_of(dataset, key) is not None]


def config_of(dataset: Any, key: str) -> MilvusSimilarityConfig | None:
    """Returns the config of a run, or None if it is not a Milvus index of this package."""
    try:
        config = dataset.get_brain_info(key).config
    except (ImportError, AttributeError, ValueError):
        # Of a package that is not there, as the App's server may not have all
        return None
    return config if isinstance(config, MilvusSimilarityConfig) else None


def is_of_samples(dataset: Any, key: str) -> bool:
    """Whether a run is of a dataset's own samples or patches, not of their frames or clips.

    Those are documents of another dataset, which FiftyOne would have to make first.
    """
    stages = BrainMethod._get_run_doc(dataset, key).view_stages or ()
    made = ("ToFrames", "ToClips", "ToTrajectories")
    return not any(f'stages.{name}"' in stage for stage in stages for name in made)


def open_index(dataset: Any, key: str) -> MilvusSimilarityIndex:
    """Returns the index of a run, with the credentials of this process; connects to nothing.

    FiftyOne keeps few loaded runs of a dataset, and some have credentials that were given as
    keyword arguments; so what is looked at in passing is not loaded through it.

    Raises:
        InvalidInputError: if there is no such run, or it is none of this package
    """
    if key not in dataset.list_brain_runs():
        known = keys(dataset)
        raise InvalidInputError(
            f"Dataset '{dataset.name}' has no brain run '{key}'; its Milvus indexes are "
            f"{', '.join(map(repr, known)) or 'none: create one first'}"
        )
    config = config_of(dataset, key)
    if config is None:
        raise InvalidInputError(
            f"Brain run '{key}' of dataset '{dataset.name}' is not an index of fiftyone-milvus; "
            f"those are {', '.join(map(repr, keys(dataset))) or 'none: create one first'}"
        )
    if MilvusSimilarity.has_cached_run_results(dataset, key):
        return dataset.load_brain_results(key)
    config.load_credentials()
    return MilvusSimilarityIndex(dataset, config, key, backend=MilvusSimilarity(config))
