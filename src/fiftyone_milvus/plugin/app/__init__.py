"""The folder that FiftyOne loads as a plugin; its code is in ``fiftyone_milvus.plugin``."""

from fiftyone_milvus.plugin import register

__all__ = ["register"]
