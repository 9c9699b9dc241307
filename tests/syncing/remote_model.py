"""A model for other processes, whose embeddings are known. Imports little, as each waits for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np


class Noted(fom.Model):
    """Embeds an image by its mean colour, and notes in a folder who does.

    With a file ``hold`` in the folder, waits before an image until it is gone. With a file whose
    name is the red of an image, removes it and kills its process there.

    Args:
        folder: the folder
        bad: the red of images on which it raises
        hold_at: how many images a process embeds before it waits
    """

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = False
    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(self, folder: Path, bad: int | None = None, hold_at: int = 0) -> None:
        self.folder, self.bad, self.hold_at = folder, bad, hold_at
        self.images = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._note("loaded", f"{os.getpid()} {fo.config.database_uri}")

    def predict(self, arg: Any) -> None:
        raise NotImplementedError

    def embed(self, arg: Any) -> np.ndarray:
        return self.embed_all([arg])[0]

    def embed_all(self, args: Any) -> np.ndarray:
        found = []
        for image in args:
            red, green, blue = (int(value) for value in np.asarray(image)[0, 0])
            if self.images >= self.hold_at and (self.folder / "hold").exists():
                self._note("held", f"{os.getpid()}")
                while (self.folder / "hold").exists():
                    time.sleep(0.02)
            self.images += 1
            if (mark := self.folder / str(red)).exists():
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if red == self.bad:
                raise RuntimeError(f"red {red} is not for me")
            self._note("embedded", f"{os.getpid()} {red}")
            found.append([red, green, blue, 1, 2])
        return np.array(found, np.float32)

    def lines(self, name: str) -> list[list[str]]:
        file = self.folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def _note(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(line + "\n")
