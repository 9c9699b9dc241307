"""A model on another machine, which needs FiftyOne's database only for what are no whole images."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo

from fiftyone_milvus.syncing import images
from fiftyone_milvus.syncing.sources import Found, ModelSource, of_images
from fiftyone_milvus.syncing.worker import Job, answer_of, load_model, readers, source


def answer(call: Callable[..., Any], *args: Any) -> bytes:
    """Returns what a call returns or raises, as another process can load it."""
    try:
        return answer_of(call(*args))
    except Exception as error:
        return answer_of(error)


class Remote:
    """The model of a job.

    Args:
        job: the pickled :class:`fiftyone_milvus.syncing.worker.Job`
        settings: of FiftyOne
        pixels: whether whole images are embedded

    Attributes:
        needs_database: whether :meth:`connect` must be called
    """

    def __init__(self, job: bytes, settings: Mapping[str, Any], pixels: bool) -> None:
        for name, value in settings.items():
            # A folder of another machine is of no use here
            if not name.endswith("_dir") or os.path.isdir(value):
                setattr(fo.config, name, value)
        self._job: Job = pickle.loads(job)
        self._model = load_model(self._job)
        self.needs_database = not (
            pixels and images.takes_pixels(self._model, self._job.batch_size)
        )
        self._source: ModelSource | None = None

    def connect(self, database: Mapping[str, Any]) -> None:
        """Connects to FiftyOne's database, and loads the dataset of the job."""
        for name, value in database.items():
            setattr(fo.config, name, value)
        foo.establish_db_conn(fo.config)
        self._source = source(self._job, self._model)

    def embed(self, part: bytes) -> Found:
        """Embeds a part: pickled IDs and paths of images, or expected rows."""
        given = pickle.loads(part)
        if self._source is not None:
            return self._source.embed(given)
        ids, paths = given
        return of_images(
            images.embed_files(
                ids,
                paths,
                self._model,
                self._job.batch_size,
                workers=readers(self._job, self._model),
                skip_failures=self._job.skip_failures,
            )
        )
