"""What an index shows of itself."""

from __future__ import annotations

from fiftyone_milvus.connection.client import RECONNECT_SECONDS
from fiftyone_milvus.connection.target import ENGINE_NAMES
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.index.base import IndexBase

_SECONDS = 2.0
"""How long Milvus may take to answer before the index is shown without its vectors."""


class IndexShown(IndexBase):
    """Shows an index."""

    def __repr__(self) -> str:
        config = self.config
        of = "samples" if config.patches_field is None else f"patches in '{config.patches_field}'"
        model = config.model or (type(self._model).__name__ if self._model else None)
        try:
            target = self.connection.target
            where = f"{ENGINE_NAMES[target.deployment]} at {target.address}"
        except FiftyOneMilvusError as error:
            where = str(error)
        facts = {
            "Dataset": self._dataset_name(),
            "Brain key": self.key or "none",
            "Vectors": self._state(of),
            "Metric": config.metric,
            "Model": (model or "none") + (", takes text" if self.supports_prompts else ""),
            "Milvus": where,
            "Collection": config.collection_name,
        }
        lines = [f"{name + ':':<12}{value}" for name, value in facts.items()]
        return "\n".join([f"{type(self).__name__} of {of}", *lines])

    __str__ = __repr__

    def _dataset_name(self) -> str:
        dataset = self._samples._root_dataset
        return "deleted" if dataset.deleted else str(dataset.name)

    def _state(self, of: str) -> str:
        """Returns how many vectors there are, and whether that is as many as expected."""
        try:
            self.connection.run(
                lambda client: client.get_server_version(timeout=_SECONDS),
                timeout=_SECONDS,
                retry=RECONNECT_SECONDS,
            )
            count = self.total_index_size
        except FiftyOneMilvusError as error:
            return f"unknown: {error}"
        if self._dataset_id is None:
            return f"{count:,}"
        expected = self._expected_count()
        if count == expected:
            return f"{count:,}, as many as there are {of}"
        return f"{count:,} for {expected:,} {of}; sync() brings it up to date"

    def _expected_count(self) -> int:
        field = self.config.patches_field
        if field is None:
            return len(self._samples)
        return int(self._samples.count(self._samples._get_label_field_path(field, "id")[1]))
