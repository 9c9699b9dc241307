"""A process that embeds for a sync: loads the model once, then takes parts until its input ends.

It knows FiftyOne's database and the media, and nothing of Milvus: the vectors go back to the
process that started it, which writes them.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.zoo as foz
import numpy as np
from fiftyone.core.view import DatasetView

from fiftyone_milvus.dataset import internals
from fiftyone_milvus.dataset.internals import brain_utils as fbu
from fiftyone_milvus.syncing.embedding_errors import reason
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.scope import Options
from fiftyone_milvus.syncing.sources import Found, ModelSource


@dataclass(frozen=True)
class Job:
    """What a worker embeds, and how. It has no credentials, and can be pickled.

    Attributes:
        dataset: the name of the dataset
        stages: the view of it, as FiftyOne stores it; None for the dataset
        model: the name of a zoo model, or a pickled model
        model_kwargs: for a zoo model
        patches_field: the field of the patches of the index, or None
        roi_field: the field whose patches make the embedding of a sample, or None
        batch_size: the model's batch size, or None
        skip_failures: whether to continue after a sample that can't be embedded
        readers: how many threads, or processes of a Torch model, read images; None for as many as
            the processors that each worker has
        processors: how many each worker has
        how: options of ``compute_patch_embeddings()``
    """

    dataset: str
    stages: list[dict[str, Any]] | None
    model: str | bytes
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    patches_field: str | None = None
    roi_field: str | None = None
    batch_size: int | None = None
    skip_failures: bool = True
    readers: int | None = None
    processors: int = 1
    how: Mapping[str, Any] = field(default_factory=dict)


def load_model(job: Job) -> Any:
    """Returns the model of a job."""
    if isinstance(job.model, str):
        return foz.load_zoo_model(job.model, **job.model_kwargs)
    return pickle.loads(job.model)


def readers(job: Job, model: Any) -> int | None:
    """Returns how many threads, or processes of a Torch model, read images; None for a default."""
    if job.readers is None and not isinstance(model, fom.TorchModelMixin):
        return job.processors + 1
    return job.readers


def source(job: Job, model: Any) -> ModelSource:
    """Loads the dataset, and returns what embeds the parts of a job with its model."""
    samples = fo.load_dataset(job.dataset)
    if job.stages is not None:
        samples = internals.member(DatasetView, "_build")(samples, job.stages)
    compute = partial(
        fbu.get_embeddings,
        model=model,
        patches_field=job.roi_field or job.patches_field,
        handle_missing="image" if job.roi_field else "skip",
        agg_fcn=_mean if job.roi_field else None,
        num_workers=job.readers,
        skip_failures=job.skip_failures,
        progress=False,
        **job.how,
    )
    whole = job.roi_field is None and job.patches_field is None
    options = Options(batch_size=job.batch_size, skip_failures=job.skip_failures)
    return ModelSource(
        samples,
        job.patches_field,
        compute,
        options,
        model if whole else None,
        readers(job, model),
    )


def main(channel: int) -> None:
    """Answers requests from standard input until it ends.

    Args:
        channel: the file descriptor for answers. Standard output is the terminal's
    """
    # Ctrl-C is for the process that started this one, which ends it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(channel, "wb") as answers:
        try:
            job = pickle.load(sys.stdin.buffer)
            work = source(job, load_model(job))
            _send(answers, None)
            while True:
                _send(answers, _embed(work, pickle.load(sys.stdin.buffer)))
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:
            _send(answers, error)


def answer_of(result: Any) -> bytes:
    """Returns a result, or an error, as another process can load it."""
    try:
        data = pickle.dumps(result, protocol=5)
        pickle.loads(data) if isinstance(result, Exception) else None
    except Exception:
        # An error of a library that can't be copied
        data = pickle.dumps(RuntimeError(reason(result)))
    return data


def _embed(work: ModelSource, part: Expected) -> Found | Exception:
    try:
        return work.embed(part)
    except Exception as error:
        return error


def _send(answers: Any, answer: Any) -> None:
    answers.write(answer_of(answer))
    answers.flush()


def _mean(embeddings: Any) -> Any:
    return np.mean(embeddings, axis=0)
