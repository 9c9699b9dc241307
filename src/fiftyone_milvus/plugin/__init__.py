"""The FiftyOne plugin: operators and a panel for Milvus indexes.

FiftyOne finds plugins as folders; ``app/`` is ours, and calls :func:`register`.
"""

from __future__ import annotations

from typing import Any

NAME = "@fiftyone-milvus/milvus"
"""The plugin's name, as FiftyOne lists it; an operator's URI is ``NAME/operator``."""


def register(plugin: Any) -> None:
    """Registers the operators and the panel.

    Args:
        plugin: a :class:`fiftyone.plugins.context.PluginContext`
    """
    import fiftyone_milvus  # noqa: F401  (makes backend="milvus" this package's)
    from fiftyone_milvus.plugin.operators import OPERATORS
    from fiftyone_milvus.plugin.panel import MilvusPanel

    for cls in (*OPERATORS, MilvusPanel):
        plugin.register(cls)
