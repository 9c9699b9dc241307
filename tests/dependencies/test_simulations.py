"""Later versions of what we depend on: all but the thing that changed goes on working.

Each runs in a process of its own, on copies of the packages in which names are other ones.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded.self_test import choose_mode
from tests.dependencies.altered import altered
from tests.embedded import test_full_disk
from tests.embedded.conftest import runtime  # noqa: F401
from tests.support.servers import MilvusServer
from tests.support.small_disk import SmallDisk, on_small_disk
from tests.support.waiting import PATIENCE
from tests.support.warm import WARM

ROOT = Path(__file__).parents[2]

#: A part of Milvus Lite that only the fast paths use, and one that only a protection uses.
FAST_PATH = {"evaluate_segment_filter": "evaluate_filter"}
PROTECTION = {"_cleanup_old_wals": "_delete_old_wals"}

USE = """
import json, sys
from fiftyone_milvus import embedded
from tests.embedded import child

path = sys.argv[1]
client = child.connect(path)
child.create(client)
client.upsert("rows", child.rows(range(50)))
client.flush("rows")
client.delete("rows", filter='pk in ["3"]')
hits = client.search("rows", [child.vector(3), child.vector(7)], limit=1)
status = embedded.status(path)
embedded.stop(path)
client = child.connect(path)
client.load_collection("rows")
count = child.count(client)
embedded.stop(path)
print(json.dumps([hits[1].ids, count, status.mode, status.mode_reason, status.unprotected]))
"""

CONNECT = """
import sys
from fiftyone_milvus.connection import Settings, connect, resolve
from fiftyone_milvus.errors import FiftyOneMilvusError

def outcome(uri):
    try:
        return connect(resolve(Settings.parse({"uri": uri}), None)).run(
            lambda client: type(client.list_collections()).__name__
        )
    except FiftyOneMilvusError as error:
        return f"{type(error).__name__}: {error}"

for uri in sys.argv[1:]:
    print(outcome(uri))
"""


@pytest.fixture(autouse=True)
def _short_sockets(runtime: Path) -> None:  # noqa: F811
    """Services whose sockets are this test's own."""


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Each copy once: Python compiles it when it is first used."""

    @functools.cache
    def make(packages: str, *names: tuple[str, str]) -> Path:
        return altered(tmp_path_factory.mktemp("packages"), packages, dict(names))

    return make


@pytest.fixture
def copies(_made: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes Python processes, from now on, import copies in which names are other ones."""

    def use(packages: str, names: dict[str, str]) -> Path:
        folder = _made(packages, *names.items())
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return folder

    return use


def python(script: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def command(*arguments: str) -> str:
    return python("from fiftyone_milvus.cli import main; main()", *arguments)


def use_embedded(path: Path) -> tuple[str, str, list[str]]:
    """Writes, searches and starts again; returns mode, reason and what is not protected."""
    nearest, count, mode, reason, unprotected = json.loads(python(USE, path))
    assert nearest == ["7"]
    assert count == 49
    return mode, reason, unprotected


def test_as_installed(tmp_path: Path) -> None:
    assert use_embedded(tmp_path / "data.db") == ("fast", "", [])


def test_a_fast_path_is_gone(tmp_path: Path, copies: Callable[..., Path]) -> None:
    copies("milvus_lite", FAST_PATH)
    mode, reason, unprotected = use_embedded(tmp_path / "data.db")
    assert (mode, unprotected) == ("plain", [])
    assert reason.endswith("has no search.indexed_filter:evaluate_segment_filter")


def test_status_and_doctor_say_so(tmp_path: Path, copies: Callable[..., Path]) -> None:
    from fiftyone_milvus.doctor import milvus

    path = tmp_path / "data.db"
    embedded.ensure(path)
    assert milvus._engine(path).level == "ok"
    embedded.stop(path)

    copies("milvus_lite", {**FAST_PATH, **PROTECTION})
    embedded.ensure(path)
    shown = " ".join(command("status").split())
    (service,) = json.loads(command("status", "--json"))["services"]
    verdict = milvus._engine(path)
    embedded.stop(path)
    assert service["mode"] == "plain"
    assert "evaluate_segment_filter" in service["mode_reason"]
    assert service["unprotected"] == ["flush (no storage.wal:_cleanup_old_wals)"]
    for text in (shown, verdict.found):
        assert f"slower, without fast paths: {service['mode_reason']}" in text
        assert f"files are less protected: {service['unprotected'][0]}" in text
    assert verdict.level == "warning"
    assert verdict.remedy == "pip install --upgrade fiftyone-milvus"


def test_a_protection_is_gone(tmp_path: Path, copies: Callable[..., Path]) -> None:
    copies("milvus_lite", PROTECTION)
    assert use_embedded(tmp_path / "data.db") == (
        "fast",
        "",
        ["flush (no storage.wal:_cleanup_old_wals)"],
    )


def test_the_servicer_is_elsewhere(tmp_path: Path, copies: Callable[..., Path]) -> None:
    copies("milvus_lite", {"servicer": "requests"})
    mode, reason, unprotected = use_embedded(tmp_path / "data.db")
    assert (mode, unprotected) == ("plain", [])
    assert "has no adapter.grpc.servicer:MilvusServicer" in reason


@pytest.mark.parametrize(
    ("packages", "names", "lacks"),
    [
        ("milvus_lite", {"MilvusServicer": "Requests"}, "no 'MilvusServicer'"),
        ("milvus_lite", {"MilvusLite": "Database"}, "no 'MilvusLite' in 'milvus_lite.db'"),
        ("pymilvus milvus_lite", {"grpc_gen": "messages"}, "no module named 'pymilvus.grpc_gen'"),
    ],
)
def test_no_embedded_engine_but_a_server(
    tmp_path: Path,
    copies: Callable[..., Path],
    milvus_server: MilvusServer,
    packages: str,
    names: dict[str, str],
    lacks: str,
) -> None:
    copies(packages, names)
    error, answer = python(CONNECT, tmp_path / "data.db", milvus_server.uri).splitlines()
    assert error.startswith("EmbeddedServiceError: the embedded engine can't start: ")
    package = packages.partition(" ")[0].replace("_", "-")
    assert lacks in error
    assert f"works with {package}>=" in error
    assert error.rpartition(", or ")[2].startswith(f"pip install {package}==")
    assert answer == "list"


# -- a full disk ------------------------------------------------------------------------------


def plain_service(disk: SmallDisk) -> None:
    embedded.ensure(disk.folder / "data.db")
    running = embedded.status(disk.folder / "data.db")
    assert running is not None
    assert (running.mode, running.unprotected) == ("plain", [])
    test_full_disk.service(disk)


def without_one_protection(disk: SmallDisk) -> None:
    assert len(choose_mode().unprotected) == 1
    for scenario in (
        test_full_disk.log_that_is_cut_off,
        test_full_disk.nothing_fits,
        test_full_disk.index_that_does_not_fit,
    ):
        path = disk.folder / "data.db"
        with test_full_disk.opened(path) as engine:
            scenario(disk, engine)
            disk.make_room()
        shutil.rmtree(path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("names", "scenario"),
    [(FAST_PATH, plain_service), (PROTECTION, without_one_protection)],
)
def test_nothing_acknowledged_is_lost(
    tmp_path: Path,
    copies: Callable[..., Path],
    names: dict[str, str],
    scenario: Callable[[SmallDisk], None],
) -> None:
    copies("milvus_lite", names)
    # Plain Milvus Lite takes its time for each row
    on_small_disk(scenario, tmp_path / "disk", megabytes=24, timeout=500)


# -- the self-test ----------------------------------------------------------------------------

OTHER_MEANING = """
from {module} import {owner} as owner

def changed(*args, **kwargs):
    return change(original(*args, **kwargs))

original = owner.{name}
change = {change}
owner.{name} = changed
from fiftyone_milvus.embedded.self_test import choose_mode
print(choose_mode().name, choose_mode().reason)
"""


@pytest.mark.parametrize(
    ("module", "owner", "name", "change", "step"),
    [
        (
            "fiftyone_milvus.embedded.executor",
            "scan",
            "search",
            "lambda hits: type(hits)(hits.rows, hits.scores * 0.9)",
            "search '' before a flush",
        ),
        (
            "fiftyone_milvus.embedded.executor",
            "in_lists",
            "rows_of",
            "lambda rows: rows[:-2]",
            "before a flush",
        ),
        (
            "fiftyone_milvus.embedded.storage",
            "flush",
            "_data_tables",
            "lambda tables: {name: table.slice(1) for name, table in tables.items()}",
            "after",
        ),
        (
            "fiftyone_milvus.embedded.executor",
            "requests",
            "read_search",
            "lambda asked: asked.radius",
            "no fast path (AttributeError: 'SearchRequest' object",
        ),
    ],
)
def test_a_fast_path_that_differs_is_off(
    module: str, owner: str, name: str, change: str, step: str
) -> None:
    code = OTHER_MEANING.format(module=module, owner=owner, name=name, change=change)
    mode, _, reason = python(code).partition(" ")
    assert mode == "plain"
    assert "the self-test found a difference" in reason
    assert step in reason


# -- pymilvus and FiftyOne --------------------------------------------------------------------

INDEX = """
import logging, sys
import numpy as np
import fiftyone as fo
import fiftyone.brain as fob
{change}
import fiftyone_milvus
from fiftyone_milvus.errors import FiftyOneMilvusError

dataset = fo.Dataset()
dataset.add_samples([fo.Sample(filepath=f"/{{i}}.png") for i in range(20)])
vectors = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
index = fob.compute_similarity(
    dataset, backend="milvus", brain_key="similar", embeddings=vectors, uri=sys.argv[1]
)
ids = dataset.values("id")

def outcome(call):
    try:
        return call()
    except FiftyOneMilvusError as error:
        assert "\\n" not in str(error)
        return f"{{type(error).__name__}}: {{error}}"

def check():
    view = index.sort_by_similarity(ids[4], k=3) if {queries} else dataset.select(ids[4])
    assert view.first().id == ids[4]
    assert index.total_index_size == 20
    index.remove_from_index(sample_ids=ids[:1])
    index.add_to_index(vectors[:1], ids[:1])
    assert index.total_index_size == 20
    assert index.get_embeddings(sample_ids=ids[:1])[0].tolist() == vectors[:1].tolist()

check()
{then}
index.cleanup()
dataset.delete()
"""


def run_index(path: Path, change: str, then: str, *, queries: bool = True) -> str:
    code = INDEX.format(change=change, then=then, queries=queries)
    done = WARM.run(code, str(path))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


ORM_NAMES = "Collection Partition Index Role connections Connections db utility MutationFuture"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data.db"
    yield path
    embedded.stop(path)


def test_the_orm_is_gone(data: Path) -> None:
    output = run_index(
        data,
        "import pymilvus\n"
        f"for name in {ORM_NAMES!r}.split():\n    delattr(pymilvus, name)\n"
        "for name in [n for n in sys.modules if n.startswith('pymilvus.orm.')]:\n"
        "    if name.rpartition('.')[2] in ('collection', 'connections', 'utility'):\n"
        "        sys.modules[name] = None",
        "print(outcome(lambda: index.collection))",
    )
    assert "EngineError: pymilvus" in output
    assert "has no ORM" in output


def test_the_handler_is_gone(data: Path, copies: Callable[..., Path]) -> None:
    folder = copies("pymilvus", {"_handler": "_grpc"})
    output = run_index(
        data,
        f"sys.path.insert(0, {str(folder)!r})",
        "assert not hasattr(index.client, '_handler')",
    )
    assert output.count("repeats failed calls itself") == 1


def test_fiftyone_parses_queries_elsewhere(data: Path) -> None:
    output = run_index(
        data,
        "from fiftyone.brain.similarity import SimilarityIndex\ndel SimilarityIndex._parse_query",
        "print(outcome(lambda: index.search(vectors[0])))",
        queries=False,
    )
    assert "EngineError: fiftyone" in output
    assert "has no SimilarityIndex._parse_query; fiftyone-milvus" in output


def test_the_brains_helpers_are_elsewhere(data: Path) -> None:
    output = run_index(
        data,
        "import fiftyone.brain.internal.core.utils as utils",
        "filter_ids = utils.filter_ids\n"
        "del utils.filter_ids\n"
        "grouped = dataset.group_by('filepath')\n"
        "print(outcome(lambda: index.search(vectors[0], k=2, filter='pk != \"\"').ids))\n"
        "from fiftyone_milvus.dataset.internals import brain_utils\n"
        "print(outcome(lambda: brain_utils.filter_ids))\n"
        "utils.filter_ids = filter_ids",
    )
    assert "has no fiftyone.brain.internal.core.utils.filter_ids" in output


def test_runs_are_stored_elsewhere(data: Path) -> None:
    output = run_index(
        data,
        "from fiftyone.core.brain import BrainMethod\nfrom fiftyone_milvus import moving",
        "owner = next(c for c in BrainMethod.__mro__ if '_get_run_doc' in vars(c))\n"
        "get = vars(owner)['_get_run_doc']\n"
        "del owner._get_run_doc\n"
        "print(outcome(lambda: moving.runs.document(dataset, 'similar')))\n"
        "owner._get_run_doc = get\n"
        "import fiftyone.core.odm as foo\n"
        "runs = foo.get_db_conn().runs\n"
        "mine = {'key': 'similar', '_dataset_id': dataset._doc.id}\n"
        "runs.update_one(mine, {'$rename': {'config': 'settings'}})\n"
        "found = runs.find_one(mine)\n"
        "print(outcome(lambda: moving.runs.rewrite(dataset, 'similar', {}, {})))\n"
        "assert runs.find_one(mine) == found\n"
        "runs.update_one(mine, {'$rename': {'settings': 'config'}})\n",
    )
    assert "EngineError: fiftyone" in output
    assert "no BrainMethod._get_run_doc" in output
    assert "has other documents of runs in MongoDB" in output
