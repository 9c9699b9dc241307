"""Indexes are created, synced, renamed and deleted by operators, from Python."""

from __future__ import annotations

import re
import socket
import sys
from contextlib import suppress
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionContext, ExecutionError, Executor
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_milvus import inventory
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import NAME, jobs, operator
from tests.app.digits import Scans
from tests.conftest import Engine
from tests.plugin.conftest import Run
from tests.support import oracle
from tests.support.once import one_engine
from tests.support.waiting import wait_until


def truth(scans: Scans, dataset: fo.Dataset, number: int) -> dict[str, float]:
    ids, numbers = dataset.values(["id", "number"])
    distances = oracle.distances("cosine", scans.vectors[number], scans.vectors[numbers])[0]
    return dict(zip(ids, distances, strict=True))


def check(scans: Scans, dataset: fo.Dataset, key: str) -> None:
    """The index ranks the dataset as numpy does."""
    index = dataset.load_brain_results(key)
    for number in dataset.values("number")[:3]:
        found = index.search(scans.vectors[number], k=10)
        oracle.check_ranking(found.ids, truth(scans, dataset, number), 10)


def refuses(run: Run, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ExecutionError) as error:
        run(*args, **kwargs)
    # FiftyOne quotes the traceback; ours is the last line
    return str(error.value).strip().splitlines()[-1]


def collections() -> set[str]:
    return {info.name for info in inventory.collections()}


def test_by_a_model(scans: Scans, digits: fo.Dataset, run: Run) -> None:
    result = run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    assert result == {"brain_key": "mine", "vectors": 60, "failed": {}}
    config = digits.get_brain_info("mine").config
    assert (config.model, config.supports_prompts) == (MODEL, True)
    check(scans, digits, "mine")


def test_by_a_field_and_of_a_selection(scans: Scans, digits: fo.Dataset, run: Run) -> None:
    digits.set_values("vector", list(scans.vectors[:60]))
    selected = digits.values("id")[10:30]
    result = run(
        "create_index",
        digits,
        ctx={"selected": selected},
        brain_key="mine",
        source="field",
        embeddings_field="vector",
        metric="cosine",
        target="selection",
        fields=["number"],
    )
    assert result["vectors"] == 20
    index = digits.load_brain_results("mine")
    assert index.fields == ("number",)
    assert {*index.sample_ids} == {*selected}


def test_of_a_view(digits: fo.Dataset, run: Run) -> None:
    view = digits.match(fo.ViewField("number") < 7)
    result = run(
        "create_index", digits, ctx={"view": view}, brain_key="mine", model=MODEL, target="view"
    )
    assert result["vectors"] == 7


def test_of_patches(scans: Scans, digits: fo.Dataset, run: Run) -> None:
    for sample in digits.limit(5):
        boxes = [[0, 0, 1, 1], [0.1, 0.1, 0.8, 0.8]]
        sample["objects"] = fo.Detections(
            detections=[fo.Detection(label="digit", bounding_box=box) for box in boxes]
        )
        sample.save()
    result = run("create_index", digits, brain_key="mine", model=MODEL, patches_field="objects")
    assert result["vectors"] == 10
    ids = digits.values("objects.detections.id", unwind=True)
    assert {*digits.load_brain_results("mine").label_ids} == {*ids}

    label = {"label_id": ids[0], "sample_id": digits.first().id, "field": "objects"}
    ctx = {"selected_labels": [label]}
    assert run("remove_from_index", digits, ctx=ctx, brain_key="mine")["removed"] == 1
    ctx = {"selected": [digits.skip(1).first().id]}
    assert run("remove_from_index", digits, ctx=ctx, brain_key="mine")["removed"] == 2

    # In a view of patches, patches are what one selects
    patches = digits.to_patches("objects")
    ctx = {"view": patches, "selected": [ids[1], ids[4]]}
    assert run("remove_from_index", digits, ctx=ctx, brain_key="mine")["removed"] == 2
    missing = run("sync_index", digits, ctx=ctx, brain_key="mine", target="selection")
    assert missing["added"] == 2
    run("create_index", digits, brain_key="whole", model=MODEL)
    assert "select samples" in refuses(run, "remove_from_index", digits, ctx=ctx, brain_key="whole")


def test_by_a_collection_that_exists(scans: Scans, digits: fo.Dataset, run: Run) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    name = digits.get_brain_info("mine").config.collection_name
    result = run(
        "create_index", digits, brain_key="other", source="collection", collection_name=name
    )
    assert result["vectors"] == 60
    assert digits.get_brain_info("other").config.metric == "cosine"
    check(scans, digits, "other")
    request = {"dataset_name": digits.name, "params": {"brain_key": "other"}, "target": "inputs"}
    uri = f"{NAME}/delete_index"
    form = (
        OperatorRegistry()
        .get_operator(uri)
        .resolve_input(ExecutionContext(request, operator_uri=uri))
    )
    assert (
        f"Index 'other' has 60 vectors in collection '{name}', which was not made for it and is "
        "also used by 'mine'"
    ) in str(form.to_json())

    # Taking it away again leaves the collection, which it did not make
    before = collections()
    text = refuses(
        run,
        "create_index",
        digits,
        brain_key="third",
        source="collection",
        collection_name=name,
        metric="euclidean",
    )
    assert "cosine" in text
    assert collections() == before
    assert "third" not in digits.list_brain_runs()


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"brain_key": "no key"}, r"Invalid brain key 'no key'"),
        ({"brain_key": "taken"}, r"Brain run 'taken' already exists"),
        ({"brain_key": None}, r"Give the index a brain key"),
        ({"brain_key": "k", "source": "elsewhere"}, r"'elsewhere'"),
        ({"brain_key": "k", "target": "all"}, r"'all'"),
        ({"brain_key": "k", "target": "selection"}, r"No samples are selected"),
        ({"brain_key": "k", "model": None}, r"Give model"),
        ({"brain_key": "k", "model": "no-such-model"}, r"no-such-model"),
        ({"brain_key": "k", "metric": "nearness"}, r"'nearness'"),
        ({"brain_key": "k", "fields": ["nothing"]}, r"nothing"),
        ({"brain_key": "k", "patches_field": "nothing"}, r"nothing"),
        ({"brain_key": "k", "source": "field"}, r"Give embeddings_field"),
        ({"brain_key": "k", "source": "collection", "collection_name": "none"}, r"none"),
    ],
)
def test_what_fails_leaves_nothing(
    digits: fo.Dataset, run: Run, params: dict[str, Any], expected: str
) -> None:
    run(
        "create_index",
        digits,
        ctx={"selected": digits.values("id")[:2]},
        brain_key="taken",
        model=MODEL,
        target="selection",
    )
    before = collections()
    text = refuses(run, "create_index", digits, **{"model": MODEL, **params})
    assert re.search(expected, text), text
    assert digits.list_brain_runs() == ["taken"]
    assert collections() == before


def test_a_model_that_fails_leaves_nothing(digits: fo.Dataset, run: Run) -> None:
    digits.set_values("filepath", [f"/nowhere/{i}.png" for i in range(60)])
    before = collections()
    text = refuses(run, "create_index", digits, brain_key="mine", model=MODEL)
    assert "None of 60 could be embedded" in text
    assert digits.list_brain_runs() == []
    assert collections() == before


def test_sync(scans: Scans, digits: fo.Dataset, run: Run) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine", fields=["number"])
    digits.delete_samples(digits.limit(4))
    digits.add_samples([fo.Sample(filepath=p, number=i) for i, p in enumerate(scans.paths[:2])])
    result = run("sync_index", digits, brain_key="mine")
    assert (result["added"], result["removed"], result["failed"]) == (2, 4, {})
    assert "2 added, 4 removed" in result["report"]
    check(scans, digits, "mine")

    result = run("sync_index", digits, brain_key="mine", prune=False, refresh=True)
    assert (result["added"], result["removed"]) == (0, 0)

    sample = digits.first()
    sample["number"] = 1000
    sample.save()
    assert run("sync_fields", digits, brain_key="mine")["updated"] == 1
    assert run("sync_fields", digits, brain_key="mine")["updated"] == 0


def test_rename_and_delete(digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("one", "two"):
        run("create_index", digits, brain_key=key, model=MODEL)
    assert "already" in refuses(run, "rename_index", digits, brain_key="one", new_key="two")
    assert run("rename_index", digits, brain_key="one", new_key="new")["was"] == "one"
    assert {*digits.list_brain_runs()} == {"new", "two"}

    names = {key: digits.get_brain_info(key).config.collection_name for key in ("new", "two")}
    assert "confirm" in refuses(run, "delete_index", digits, brain_key="new")
    assert "'all'" in refuses(
        run, "delete_index", digits, brain_key="new", what="all", confirmed=True
    )
    result = run("delete_index", digits, brain_key="new", what="collection", confirmed=True)
    assert result["vectors"] == 60
    assert names["new"] not in collections()
    assert "new" in digits.list_brain_runs()
    # It can be filled again
    assert run("sync_index", digits, brain_key="new")["added"] == 60

    run("delete_index", digits, brain_key="new", what="run", confirmed=True)
    assert names["new"] in collections()
    run("delete_index", digits, brain_key="two", confirmed=True)
    assert names["two"] not in collections()
    assert digits.list_brain_runs() == []

    # What the run has left behind is an orphan, once no process can be about to store its run
    assert "being computed" in refuses(
        run, "clean_up", digits, collections=[names["new"]], confirmed=True
    )
    monkeypatch.setattr(sys.modules["fiftyone_milvus.inventory.collections"], "UNDER_WAY", 0)
    assert "confirm" in refuses(run, "clean_up", digits, collections=[names["new"]])
    result = run("clean_up", digits, collections=[names["new"]], confirmed=True)
    assert result["dropped"] == [names["new"]]
    assert names["new"] not in collections()


@one_engine
def test_an_index_that_is_not_there(digits: fo.Dataset, run: Run) -> None:
    for name in ("sync_index", "sync_fields", "remove_from_index", "delete_index", "rename_index"):
        assert "'nothing'" in refuses(run, name, digits, brain_key="nothing")
        assert "Give brain_key" in refuses(run, name, digits)


def streamed(dataset: fo.Dataset, **params: Any) -> Any:
    """Returns what the App gets of an operator: a generator of messages."""
    uri = f"{NAME}/create_index"
    request = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    return (
        OperatorRegistry()
        .get_operator(uri)
        .execute(ExecutionContext(request, executor=Executor(), operator_uri=uri))
    )


@one_engine
def test_the_app_sees_progress_and_result(
    digits: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every report becomes a message, not only the last one of a quarter of a second
    monkeypatch.setattr(operator, "_TICK", 0)
    requests = [message.body for message in streamed(digits, brain_key="mine", model=MODEL)]
    progress = [r.params for r in requests if r.operator_uri == "set_progress"]
    assert progress[0]["label"] == "Preparing"
    # Only what is done is done
    assert any(re.match(r"60 of 60 \(", p["label"]) for p in progress)
    assert all((p.get("progress") or 0) < 1 for p in progress[:-1])
    assert progress[-1] == {"progress": 1, "label": "Index 'mine' has 60 vectors"}
    assert [r.operator_uri for r in requests[-2:]] == ["reload_dataset", "notify"]

    # FiftyOne would show nothing of an error that is raised
    requests = [message.body for message in streamed(digits, brain_key="mine", model=MODEL)]
    said, again = requests[-2].params, requests[-1]
    assert said["variant"] == "error"
    assert "Brain run 'mine' already exists" in said["message"]
    # What was typed is kept
    assert again.operator_uri == "prompt_user_for_operation"
    assert {"brain_key": "mine", "model": MODEL}.items() <= again.params["params"].items()


@one_engine
def test_work_goes_on_if_the_browser_is_closed(
    digits: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the first message is not the last
    monkeypatch.setattr(operator, "_TICK", 0)
    stream = streamed(digits, brain_key="mine", model=MODEL)
    next(stream)
    assert [job.key for job in jobs.jobs(digits.name)] == ["mine"]
    stream.close()
    wait_until(lambda: not jobs.jobs(digits.name))
    digits.reload()
    assert digits.load_brain_results("mine").total_index_size == 60


def test_delegated(scans: Scans, digits: fo.Dataset) -> None:
    service = DelegatedOperationService()
    params = {"brain_key": "later", "model": MODEL, "metric": "cosine"}
    queued = foo.execute_operator(
        f"{NAME}/create_index", {"dataset": digits, "params": params}, request_delegation=True
    )
    assert queued.delegated
    assert "later" not in digits.list_brain_runs()
    service.execute_queued_operations(dataset_name=digits.name, log=False)
    digits.reload()
    done = service.list_operations(dataset_name=digits.name)[0]
    assert done.run_state == "completed", done.result
    assert done.result.result == {"brain_key": "later", "vectors": 60, "failed": {}}
    assert done.status.progress == 1
    assert done.status.label == "Index 'later' has 60 vectors"
    check(scans, digits, "later")
    assert jobs.jobs(digits.name) == []


@one_engine
def test_delegated_in_vain(digits: fo.Dataset) -> None:
    service = DelegatedOperationService()
    params = {"brain_key": "later", "model": "no-such-model"}
    foo.execute_operator(
        f"{NAME}/create_index", {"dataset": digits, "params": params}, request_delegation=True
    )
    service.execute_queued_operations(dataset_name=digits.name, log=False)
    done = service.list_operations(dataset_name=digits.name)[0]
    assert done.run_state == "failed"
    assert "no-such-model" in done.result.error
    assert digits.list_brain_runs() == []


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_the_scale_of_a_collection(digits: fo.Dataset, run: Run) -> None:
    """What the form has under Advanced reaches the collection; so few rows fit one query node."""
    fields = {"fields": ["number"], "partition_key": "number", "num_partitions": 8}
    scale = {"num_shards": 3, "replicas": 1}
    run("create_index", digits, brain_key="mine", model=MODEL, advanced=True, **fields, **scale)
    index = digits.load_brain_results("mine")
    found = index.client.describe_collection(index.config.collection_name)
    assert (found["num_shards"], found["num_partitions"]) == (3, 8)
    assert [f["name"] for f in found["fields"] if f.get("is_partition_key")] == ["number"]
    request = {"dataset_name": digits.name, "params": {"advanced": True, **fields}}
    operator = foo.get_operator(f"{NAME}/create_index")
    context = ExecutionContext({**request, "target": "inputs"}, operator_uri=operator.uri)
    form = str(operator.resolve_input(context).to_json())
    assert all(label in form for label in ("Shards", "Replicas", "Partition key", "Partitions"))


def test_the_form_offers_what_the_engine_builds(digits: fo.Dataset, engine: Engine) -> None:
    everywhere = {"FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "AUTOINDEX"}
    # Milvus 2.3, of PyPI
    own = {"embedded": {"HNSW_SQ", "IVF_RABITQ"}, "server": {"IVF_PQ", "SCANN"}}[engine.name]
    params = {"advanced": True, "source": "model"}
    request = {"dataset_name": digits.name, "params": params, "target": "inputs"}
    operator = foo.get_operator(f"{NAME}/create_index")
    form = operator.resolve_input(ExecutionContext(request, operator_uri=operator.uri))
    assert {*form.type.properties["index_type"].type.values} == everywhere | own


@pytest.mark.parametrize("name", ["create_index", "clean_up"])
@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_engine_that_does_not_answer_is_asked_once(
    digits: fo.Dataset, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The App draws a form at each keystroke."""
    operator = foo.get_operator(f"{NAME}/{name}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Accepts, and says nothing
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setitem(fob.brain_config.similarity_backends["milvus"], "uri", uri)
        listener.settimeout(0)
        for source, asked in (("collection", True), ("collection", False), ("model", False)):
            params = {"advanced": True, "source": source}
            request = {"dataset_name": digits.name, "params": params, "target": "inputs"}
            form = operator.resolve_input(ExecutionContext(request, operator_uri=operator.uri))
            assert (_connections(listener) > 0) == asked
            assert source == "model" or "127.0.0.1" in str(form.to_json())


def _connections(listener: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_the_forms(digits: fo.Dataset, run: Run) -> None:
    """Each form can be drawn, with and without an index."""
    asking = {
        *("sync_index", "sync_fields", "remove_from_index", "rename_index", "delete_index"),
        *("search", "find_duplicates", "find_unique"),
    }
    for made in (False, True):
        if made:
            run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
        for found in foo.list_operators():
            if found.plugin_name != NAME or found.name == "milvus_panel":
                continue
            for params in ({}, {"advanced": True}, {"source": "field"}, {"source": "collection"}):
                request = {"dataset_name": digits.name, "params": params, "target": "inputs"}
                form = found.resolve_input(ExecutionContext(request, operator_uri=found.uri))
                text = str(form.to_json())
                assert ("mine" in text) == made or found.name not in asking
