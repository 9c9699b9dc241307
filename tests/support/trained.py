"""The demo's model, trained once for all processes of a test run, as that takes eight seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from fiftyone_milvus.demo import model


@contextmanager
def trained_once(folder: Path) -> Iterator[None]:
    """Installing the model trains it only where no other process has left its weights.

    Args:
        folder: the same for all processes
    """
    weights, train = folder / "digits-prompt.npz", model.train

    def trained() -> dict[str, np.ndarray]:
        with FileLock(f"{weights}.lock"):
            if not weights.exists():
                np.savez(weights, **train())  # type: ignore[arg-type]
        with np.load(weights) as found:
            return dict(found)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(model, "train", trained)
        yield
