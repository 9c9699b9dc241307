"""The site's configuration: its title has the version."""

from __future__ import annotations

import re
from pathlib import Path

from fiftyone_milvus import __version__

_CONFIGURATION = Path(__file__).parents[2] / "mkdocs.yml"


def configuration() -> str:
    """Returns ``mkdocs.yml`` with today's version in the title."""
    text = _CONFIGURATION.read_text(encoding="utf-8")
    title = f"site_name: fiftyone-milvus {__version__}"
    return re.sub(r"^site_name: .*$", title, text, count=1, flags=re.MULTILINE)
