"""``python -m fiftyone_milvus`` runs the command line, as ``fiftyone-milvus`` does."""

from __future__ import annotations

from fiftyone_milvus.cli import main

if __name__ == "__main__":
    main()
