"""What FiftyOne loads; the plugin itself is part of the package ``fiftyone_milvus``."""

from fiftyone_milvus.plugin import register

__all__ = ["register"]
