# ruff: noqa: F401  (fixtures of another file)
"""Parts of a sync that processes do without knowing of each other."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
import yaml
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_milvus.cli import arguments
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.syncing import shard
from fiftyone_milvus.syncing.shard import Shard
from tests.cli.support import PROGRAM, enter
from tests.support.indexes import KEY
from tests.support.waiting import PATIENCE
from tests.syncing.shades import Shade, content, counts, expected, one_engine, patches, sample

EXAMPLES = Path(__file__).parents[2] / "examples"
IDS = st.lists(st.binary(min_size=12, max_size=12), unique=True, max_size=40)


def array(ids: list[bytes]) -> Any:
    return np.frombuffer(b"".join(ids), object_ids.DTYPE)


@given(IDS, st.integers(1, 9), st.data())
def test_each_id_is_in_one_shard_whatever_the_others(
    ids: list[bytes], count: int, data: st.DataObject
) -> None:
    masks = np.array([Shard(i, count).has(array(ids)) for i in range(count)])
    assert (masks.sum(axis=0) == 1).all()
    for at in data.draw(st.lists(st.sampled_from(range(len(ids))))) if ids else []:
        assert Shard(int(masks[:, at].argmax()), count).has(array([ids[at]])).all()


def test_shards_stay_what_they_are_in_later_versions() -> None:
    # Else processes of two versions would do some samples twice, and leave out others
    ids = [bytes(range(i, i + 12)) for i in range(0, 120, 10)]
    masks = np.array([Shard(i, 5).has(array(ids)) for i in range(5)])
    assert masks.argmax(axis=0).tolist() == [0, 4, 1, 3, 0, 0, 3, 0, 0, 0, 3, 2]


def test_samples_that_were_made_in_turns_are_spread() -> None:
    # The counter of every other one is even, as where two slices of a group are made in turns
    ids = [ObjectId(f"{0x6A000000:08x}{7:010x}{2 * i:06x}").binary for i in range(10_000)]
    sizes = [int(Shard(i, 4).has(array(ids)).sum()) for i in range(4)]
    assert min(sizes) > 2_300
    assert max(sizes) < 2_700


def part(dataset: Any, *numbers: int) -> Any:
    ids = [
        _id for _id in dataset.values("id") if Shard(*numbers).has(array([ObjectId(_id).binary]))
    ]
    return dataset.select(ids)


def test_shards_fill_an_index_and_a_last_sync_prunes(make: Any, dataset: Any) -> None:
    index = make(dataset, fields=["number"])
    index.sync(part(dataset, 1, 3).limit(2), model=Shade())
    gone = dataset.select(index.sample_ids[:1].tolist())
    stale = gone.first().id
    dataset.delete_samples(gone)
    held = content(index)
    for at in (2, 0, 1):
        model, mine = Shade(), expected(part(dataset, at, 3))
        done = index.sync(model=model, shard=(at, 3), progress=False)
        held |= mine
        assert content(index) == held
        assert stale in held, "a shard removes nothing"
        assert (done.shard, done.removed, done.fields) == ((at, 3), 0, None)
        assert done.added + done.unchanged == len(mine)
        assert done.added == model.images == len(mine) - (1 if at == 1 else 0)
        assert str(done).startswith(f"shard {at}/3: ")
        assert index.sync(model=model, shard=(at, 3)).unchanged == len(mine)
    report = index.sync(model=Shade())
    assert counts(report) == (0, 0, 1, 29, 0)
    assert (report.shard, content(index)) == (None, expected(dataset))
    assert index.explain(np.ones(5), k=3, view=dataset.match(fo.ViewField("number") < 9)).plan == (
        "condition"
    ), "the metadata fields are up to date"


@one_engine
def test_the_patches_of_a_sample_are_in_one_shard(make: Any, pages: Any) -> None:
    index = make(pages, patches_field="objects")
    model = Shade()
    report = index.sync(model=model, shard=(1, 2))
    assert content(index) == patches(part(pages, 1, 2))
    assert 0 < report.added == model.images < len(patches(pages))


@one_engine
def test_a_shard_takes_its_rows_of_an_array(make: Any, dataset: Any) -> None:
    index = make(dataset, model=None)
    truths = expected(dataset)
    index.sync(embeddings=np.array([truths[i] for i in dataset.values("id")]), shard=(0, 2))
    assert content(index) == expected(part(dataset, 0, 2))


@one_engine
def test_what_is_no_shard(make: Any, dataset: Any) -> None:
    index = make(dataset)
    for value in [(2, 2), (-1, 2), (0, 0), (0,), "0/2", 1, (0.5, 2), (True, 2), (0, None)]:
        with pytest.raises(InvalidInputError, match=r"Invalid shard .* expected"):
            index.sync(model=Shade(), shard=value)
    for flag in ("refresh", "fields"):
        with pytest.raises(InvalidInputError, match=r"A shard only adds|no metadata fields"):
            index.sync(model=Shade(), shard=(0, 2), **{flag: True})
    assert not index.total_index_size
    for text in ("2/2", "1", "a/b", "-1/2", "1/2/3", "0/0"):
        with pytest.raises(InvalidInputError, match=f"Invalid shard '{text}'; expected I/N"):
            shard.parse(text)


SLURM = "SLURM_ARRAY_TASK_"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"ID": "3", "COUNT": "4", "MIN": "0", "MAX": "3", "STEP": "1"}, (3, 4)),
        ({"ID": "3", "COUNT": "4", "MIN": "1", "MAX": "4"}, (2, 4)),
        ({"ID": "10", "COUNT": "4", "MIN": "0", "MAX": "15", "STEP": "5"}, (2, 4)),
        ({"ID": "4", "COUNT": "3", "MIN": "1", "MAX": "9", "STEP": "1"}, "not evenly spaced"),
        ({"ID": "4"}, "Invalid SLURM_ARRAY_TASK_COUNT None"),
        ({"ID": "x", "COUNT": "3"}, "Invalid SLURM_ARRAY_TASK_ID 'x'"),
        ({"JOB_COMPLETION_INDEX": "2", shard.COUNT: "5"}, (2, 5)),
        ({"JOB_COMPLETION_INDEX": "2"}, f"set {shard.COUNT}"),
        ({"JOB_COMPLETION_INDEX": "5", shard.COUNT: "5"}, "Invalid shard '5/5'"),
        ({shard.COUNT: "5"}, "no array job; expected --shard I/N"),
        ({}, "no array job; expected --shard I/N"),
    ],
)
def test_what_a_scheduler_tells(environ: dict[str, str], found: Any) -> None:
    known = {name if "_" in name else SLURM + name: value for name, value in environ.items()}
    if isinstance(found, tuple):
        assert shard.of_job(known) == found
    else:
        with pytest.raises(InvalidInputError, match=found):
            shard.of_job(known)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["sync", "a", "b", "--shard"], ["sync", "a", "b", "--shard", "auto"]),
        (["sync", "a", "b", "--shard", "--json"], ["sync", "a", "b", "--shard", "auto", "--json"]),
        (["sync", "--shard", "0/2", "a", "b"], ["sync", "--shard", "0/2", "a", "b"]),
        (["sync", "--shard=0/2", "a"], ["sync", "--shard=0/2", "a"]),
        (
            ["sync", "a", "b", "--ray", "--gpus", "1"],
            ["sync", "a", "b", "--ray", "auto", "--gpus", "1"],
        ),
    ],
)
def test_the_numbers_may_be_left_out(given: list[str], read: list[str]) -> None:
    assert arguments.with_values(given) == read


# -- the examples ----------------------------------------------------------------------------


def test_the_examples(
    colours: Any, model_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part of three with each; a stand-in for the program notes what it is called with."""
    colours.persistent = True
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(model_zoo))
    index = fob.compute_similarity(
        colours, model="contract-colours", embeddings=False, brain_key=KEY, backend="milvus"
    )
    calls = tmp_path / "calls"
    programs = {
        "fiftyone-milvus": f'env -0 > "{calls}.env"; printf "%s\\n" "$*" >> "{calls}"',
        # Of GNU parallel, what the example needs
        "parallel": 'shift; while read -r i; do "${@//\\{\\}/$i}"; done',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def run(*command: str, path: str = path, **environ: str) -> list[list[str]]:
        calls.unlink(missing_ok=True)
        env = {**os.environ, "PATH": path, **environ}
        subprocess.run(command, env=env, check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
        return [line.split() for line in calls.read_text().splitlines()] if calls.exists() else []

    # Slurm: the program itself, in a process of its own
    slurm = {f"{SLURM}{k}": v for k, v in {"ID": "7", "MIN": "7", "MAX": "9", "COUNT": "3"}.items()}
    own = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
    run(str(EXAMPLES / "slurm.sh"), colours.name, KEY, path=own, **slurm)
    done = set(part(colours, 0, 3).values("id"))
    assert set(index.sample_ids) == done != set()

    # Kubernetes
    spec = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert (spec["completionMode"], given[shard.COUNT]) == ("Indexed", str(spec["completions"]))
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv(shard.COUNT, "3")
    program, command, _, _, *rest = container["command"]
    assert program == "fiftyone-milvus"
    report = json.loads(enter(command, colours.name, KEY, *rest, "--json")[0])
    done |= set(part(colours, 1, 3).values("id"))
    assert (set(index.sample_ids), report["shard"]) == (done, [1, 3])

    # GNU parallel, and the last sync
    called = run(str(EXAMPLES / "parallel.sh"), colours.name, KEY, "3")
    start = ["sync", colours.name, KEY]
    assert called == [*([*start, "--shard", f"{i}/3"] for i in range(3)), start]
    report = json.loads(enter(*called[2], "--json")[0])
    assert report["added"] == len(part(colours, 2, 3))
    gone = colours.limit(1).values("id")
    colours.delete_samples(gone)
    report = json.loads(enter(*called[3], "--json")[0])
    assert (report["added"], report["removed"], report["unchanged"]) == (0, 1, 29)
    index.cleanup()
