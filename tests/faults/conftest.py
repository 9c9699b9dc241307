"""Datasets and indexes of the tests of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fiftyone_milvus  # noqa: F401  (makes backend="milvus" ours)
from tests.faults.model import make_dataset, make_files
from tests.faults.support import Child, World
from tests.support.indexes import unique


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return make_files(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def make(files: list[str]) -> Iterator[Callable[..., World]]:
    """Makes a dataset and an empty index of it, somewhere."""
    made: list[World] = []

    def make(kwargs: dict[str, Any], count: int = 1000) -> World:
        made.append(World.make(make_dataset(unique("faults"), files, count), kwargs))
        return made[-1]

    yield make
    for world in made:
        world.index.cleanup()
        world.dataset.delete()


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    started: list[Child] = []

    def start(world: World, seconds: float = 0.001) -> Child:
        started.append(Child(world, seconds))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def embedded(embedded_path: Path) -> dict[str, Any]:
    return {"uri": str(embedded_path)}
