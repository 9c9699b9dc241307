"""What runs on the nodes of a Ray cluster. Ray copies it there, and it imports the rest there."""

from __future__ import annotations

from typing import Any


def look(paths: list[str]) -> tuple[str | None, list[str]]:
    """Returns the version of this package on a node, if it is there, and which files are not."""
    import os
    from importlib.metadata import PackageNotFoundError, version

    try:
        found: str | None = version("fiftyone-milvus")
    except PackageNotFoundError:
        found = None
    return found, [path for path in paths if not os.access(path, os.R_OK)]


class Embedder:
    """An actor that loads the model of a job once, and embeds parts with it.

    Its methods return pickled results, as :func:`fiftyone_milvus.syncing.worker.answer_of` does.
    """

    def look(self, paths: list[str]) -> tuple[str, str | None, list[str]]:
        """Returns the node that it runs on, and what is there, as :func:`look` does."""
        import ray

        return ray.get_runtime_context().get_node_id(), *look(paths)

    def start(self, job: bytes, settings: dict[str, Any], pixels: bool) -> bytes:
        """Loads the model; returns whether it needs FiftyOne's database.

        Args:
            job: the pickled :class:`fiftyone_milvus.syncing.worker.Job`
            settings: of FiftyOne, which it has not imported yet
            pixels: whether whole images are embedded
        """
        import os

        # Most need none, so the node's is neither started nor waited for
        os.environ.pop("FIFTYONE_DATABASE_URI", None)
        os.environ["FIFTYONE_DISABLE_SERVICES"] = "1"
        from fiftyone_milvus.syncing import remote

        self._remote = remote
        return remote.answer(self._start, job, settings, pixels)

    def _start(self, job: bytes, settings: dict[str, Any], pixels: bool) -> bool:
        self._model = self._remote.Remote(job, settings, pixels)
        return self._model.needs_database

    def connect(self, database: dict[str, Any]) -> bytes:
        """Connects to FiftyOne's database.

        Args:
            database: FiftyOne's settings. The values may be secret, and calls' arguments are kept
                nowhere, unlike those that an actor is made with, or its environment
        """
        return self._remote.answer(self._model.connect, database)

    def embed(self, part: bytes) -> bytes:
        """Embeds a part: pickled IDs and paths of images, or expected rows."""
        return self._remote.answer(self._model.embed, part)
