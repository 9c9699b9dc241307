"""Those who change an index while the App searches it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.waiting import PATIENCE
from tests.support.warm import WARM

_ROOT = Path(__file__).parents[2]


class WriterProcess:
    """A second Python process: ``writer.py``, counting its rounds.

    Args:
        dataset: the dataset's name
        key: the index' brain key
        numbers: the samples that it takes out and puts back
    """

    def __init__(self, dataset: str, key: str, numbers: range) -> None:
        self.rounds = 0
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        code = "import sys; from tests.app import writer; writer.main(*sys.argv[1:])"
        arguments = [dataset, key, str(numbers[0]), str(numbers[-1])]
        self._process = WARM.start(code, *arguments, cwd=_ROOT)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._expect("round")

    def take_out(self) -> None:
        """Ends the rounds with the samples out of the index."""
        self._go_on("removed")

    def put_back(self) -> None:
        """Puts the samples back into the index."""
        self._go_on("added")

    def kill(self) -> None:
        self._process.kill()
        self._thread.join(60)
        self._process.close()

    def _listen(self) -> None:
        for line in self._process.stdout:
            said = line.strip()
            self.rounds += said == "round"
            # FiftyOne logs to the standard output too
            if said in ("removed", "added") or (said == "round" and self.rounds == 1):
                self._said.put(said)

    def _go_on(self, answer: str) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._expect(answer)

    def _expect(self, answer: str) -> None:
        assert self._said.get(timeout=PATIENCE) == answer


class WriterThread:
    """Repeats something in a thread of this process until it is ended, with rests, and counts.

    Args:
        action: what to repeat
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self.rounds = 0
        self._action = action
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Waits for the round to end; raises what went wrong in any."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._action()
                self.rounds += 1
                self._stop.wait(0.2)
        except BaseException as error:
            self._problem = error
