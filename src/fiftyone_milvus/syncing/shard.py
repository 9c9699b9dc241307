"""One of several parts of a sync, which processes can do without knowing of each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.numbers import as_integer

COUNT = "FIFTYONE_MILVUS_SHARDS"
"""The environment variable with the number of shards, where a scheduler tells only which it is."""


@dataclass(frozen=True)
class Shard:
    """A part of all samples.

    Which samples are in it depends on their IDs only. So it is the same in every process, at any
    time, whatever is in the index.

    Attributes:
        index: which part, from 0
        count: how many parts there are
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, sample_ids: IdArray) -> npt.NDArray[np.bool_]:
        """Returns for each sample whether it is in this part."""
        words = np.frombuffer(sample_ids.tobytes(), ">u4").reshape(-1, 3).astype(np.uint64)
        # IDs are a time and a counter, so neighbors must be spread (the finalizer of SplitMix64)
        mixed = (words[:, 0] << np.uint64(32) | words[:, 1]) + words[:, 2] * np.uint64(
            0x9E3779B97F4A7C15
        )
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        found: npt.NDArray[np.bool_] = mixed % np.uint64(self.count) == self.index
        return found


def check(value: Any) -> Shard | None:
    """Returns the shard that a caller passes: ``(i, n)``, with ``0 <= i < n``, or None.

    Raises:
        InvalidInputError: if it is none
    """
    if value is None:
        return None
    pair = list(value) if isinstance(value, (tuple, list)) else []
    numbers = [as_integer(number) for number in pair]
    if len(numbers) == 2:
        index, count = numbers
        if index is not None and count is not None and 0 <= index < count:
            return Shard(index, count)
    raise InvalidInputError(
        f"Invalid shard {shown(value)}; expected (i, n) with i from 0 to n - 1, such as (0, 4)"
    )


def parse(text: str) -> tuple[int, int]:
    """Reads a shard as the command line takes it, such as ``0/4``.

    Raises:
        InvalidInputError: if it is none
    """
    if found := re.fullmatch(r"(\d+)/(\d+)", text):
        index, count = int(found[1]), int(found[2])
        if index < count:
            return index, count
    raise InvalidInputError(
        f"Invalid shard '{text}'; expected I/N with I from 0 to N - 1, such as 0/4"
    )


def of_job(environ: Mapping[str, str]) -> tuple[int, int]:
    """Returns the shard of this process from what a scheduler tells the tasks of an array.

    Args:
        environ: the environment: of a Slurm array, of a Kubernetes Job whose ``completionMode`` is
            ``Indexed`` and whose ``completions`` are in :data:`COUNT`, or with :data:`COUNT` alike

    Raises:
        InvalidInputError: if it tells no shard
    """
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _of_slurm(environ)
    if "JOB_COMPLETION_INDEX" not in environ:
        raise InvalidInputError(
            "--shard has no numbers, and this is no array job; expected --shard I/N such as 0/4, "
            "or SLURM_ARRAY_TASK_ID of Slurm, or JOB_COMPLETION_INDEX of Kubernetes"
        )
    if COUNT not in environ:
        raise InvalidInputError(
            f"Kubernetes does not tell the number of completions; set {COUNT} to it in the Job, "
            "or pass --shard I/N"
        )
    return parse(f"{environ['JOB_COMPLETION_INDEX']}/{environ[COUNT]}")


def _of_slurm(environ: Mapping[str, str]) -> tuple[int, int]:
    def number(name: str, default: str | None = None) -> int:
        text = environ.get(f"SLURM_ARRAY_TASK_{name}", default)
        if text is None or not text.isdigit():
            raise InvalidInputError(
                f"Invalid SLURM_ARRAY_TASK_{name} {text!r}; expected an integer, or pass "
                "--shard I/N"
            )
        return int(text)

    task, count, first = number("ID"), number("COUNT"), number("MIN", "0")
    step = number("STEP", "1") or 1
    index, rest = divmod(task - first, step)
    last = number("MAX", str(first + step * (count - 1)))
    if rest or not 0 <= index < count or last != first + step * (count - 1):
        raise InvalidInputError(
            f"Slurm's array {first}-{last} has {count} tasks, which are not evenly spaced; submit "
            "it as --array=0-15 alike, or pass --shard I/N"
        )
    return index, count
