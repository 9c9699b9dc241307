"""Processes of the user that end, or work at the same time."""

from __future__ import annotations

import logging

import pytest
from fiftyone import ViewField as F

from tests.faults.model import Slow
from tests.faults.support import interrupt, later, within


def test_one_is_killed_and_two_go_on(make, child, engine):
    world = make(engine.kwargs)
    first, second = child(world), child(world)
    first.go()
    first.until(300)
    first.kill()
    before = len(world.content())
    assert first.acknowledged <= before < len(world.dataset)

    second.go()
    mine = world.sync(Slow(0.001))
    added, unchanged = second.finish()
    assert added + unchanged == mine.added + mine.unchanged == len(world.dataset)
    assert min(unchanged, mine.unchanged) >= before
    world.complete()


def test_interrupt_in_the_middle(make, engine, caplog):
    world = make(engine.kwargs)
    seen = []
    with (
        caplog.at_level(logging.INFO, logger="fiftyone_milvus"),
        later(2.5, interrupt),
        pytest.raises(KeyboardInterrupt),
        within(12),
    ):
        world.sync(Slow(0.005), progress=lambda bar: seen.append(bar.iteration))
    assert seen[-1] < len(world.dataset)
    if seen[-1]:
        assert (
            "vectors were written before this; call sync() again to write the rest" in caplog.text
        )
    world.goes_on(seen[-1])


def test_failures_of_some_samples(make, embedded):
    world = make(embedded, 400)

    def fail() -> None:
        raise RuntimeError("out of\nmemory")

    report = world.sync(Slow(0, {50: fail, 300: fail}, without={7}))
    failed = dict.fromkeys(
        world.dataset.match(F("number") == 7).values("id"), "its embedding contains NaN or infinity"
    )
    assert dict(report.failed) == failed
    assert report.added == 400 - len(failed)
    assert set(world.dataset.values("id")) - set(world.content()) == set(failed)
    world.goes_on(report.added)
