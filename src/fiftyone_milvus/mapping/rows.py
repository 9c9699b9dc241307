"""Rows of an index, and places of a map, with their IDs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.metrics import Array


class Rows(NamedTuple):
    """Values with the IDs of the samples, or patches, that they are of.

    Attributes:
        values: a ``num_rows x num_dims`` array: embeddings, or points of a map
        sample_ids: a ``num_rows`` array of sample IDs
        label_ids: a ``num_rows`` array of label IDs, or None if they are not of patches
    """

    values: Array
    sample_ids: npt.NDArray[np.str_]
    label_ids: npt.NDArray[np.str_] | None

    @property
    def keys(self) -> npt.NDArray[np.str_]:
        """The primary keys."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    def take(self, which: Array) -> Rows:
        """Returns some rows.

        Args:
            which: an integer array of positions, or a boolean array of ``num_rows``
        """
        labels = None if self.label_ids is None else self.label_ids[which]
        return Rows(self.values[which], self.sample_ids[which], labels)


def join(parts: Iterable[Rows]) -> Rows:
    """Returns rows that were read in parts, at least one, as one."""
    found = list(parts)
    labels = None
    if found[0].label_ids is not None:
        labels = np.concatenate([part.keys for part in found])
    values = np.concatenate([part.values for part in found])
    return Rows(values, np.concatenate([part.sample_ids for part in found]), labels)


def placed(parts: Iterable[Rows], project: Callable[[Array], Array]) -> list[Rows]:
    """Returns where embeddings are on a map.

    Args:
        parts: embeddings
        project: makes a ``num_rows x num_dims`` array of embeddings a ``num_rows x 2`` one
    """
    return [part._replace(values=project(part.values)) for part in parts]
