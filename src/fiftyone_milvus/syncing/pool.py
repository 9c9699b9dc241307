"""What embeds for a sync outside of its process: workers, and how to get another one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.sources import Found, Source


class Lost(Exception):
    """A worker ended before it was told to.

    Attributes:
        how: as in ``"was ended by SIGKILL"``
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Worker(ABC):
    """A process that embeds one part at a time. It begins to start when it is made."""

    @abstractmethod
    def start(self) -> None:
        """Waits until it has loaded the model.

        Raises:
            Lost: if it ended, or was killed
            Exception: what it raised
        """

    @abstractmethod
    def embed(self, part: Expected) -> Found:
        """Returns the embeddings of a part; raises as :meth:`start` does."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it, whatever it does."""


class Pool(ABC):
    """Where workers run.

    Attributes:
        count: how many there are to be
    """

    count: int

    def open(self, source: Source, examples: Expected) -> None:  # noqa: B027  (there may be nothing to do)
        """Is called before the first worker is made.

        Args:
            source: looks up samples
            examples: some of the expected rows, to try whether their media can be read

        Raises:
            FiftyOneMilvusError: if no worker could embed them
        """

    @abstractmethod
    def worker(self) -> Worker:
        """Returns another worker."""

    def close(self) -> None:  # noqa: B027
        """Is called when all workers have been killed."""
