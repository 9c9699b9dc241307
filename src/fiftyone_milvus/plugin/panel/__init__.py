"""The Milvus panel: what there is, whether it is in step, and buttons for what can be done."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.plugin.panel.panel import MilvusPanel

PANELS: tuple[type[Any], ...] = (MilvusPanel,)
