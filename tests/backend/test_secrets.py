"""Credentials are in no output, no log, no traceback, no file and no document, on each engine."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import pytest
from bson import json_util

import fiftyone_milvus
from fiftyone_milvus import inventory, moving
from fiftyone_milvus.connection import Settings, connect, resolve
from fiftyone_milvus.embedded import service_file
from tests.support.files import holders
from tests.support.indexes import KEY, image_dataset, unique, vectors
from tests.support.processes import free_port

TOKEN, PASSWORD = "sesame-Zq8-token", "sesame-Zq8-password"
PACKAGE = str(Path(fiftyone_milvus.__file__).parent)


class Kept(logging.Handler):
    """Everything that is logged, at any level, with its tracebacks."""

    def __init__(self) -> None:
        super().__init__(0)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, levels = Kept(), {}
    for name in ("", "fiftyone", "fiftyone_milvus", "pymilvus"):
        logger = logging.getLogger(name)
        levels[logger] = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    yield handler.texts
    for logger, level in levels.items():
        logger.setLevel(level)
        logger.removeHandler(handler)


def crash(call: Any) -> str:
    """What a crash report may show: all tracebacks, and the local variables of our frames."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    text, links, seen = "", [caught.value], set()
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += [link.__cause__, link.__context__]
        shown = traceback.TracebackException.from_exception(link, capture_locals=True)
        ours = [frame for frame in shown.stack if frame.filename.startswith(PACKAGE)]
        # What the caller passed is in the frame of what was called, as it is in the caller's own
        ours = [frame for frame in ours if frame.name not in ("call", "migrate", "adopt")]
        text += "".join(traceback.format_exception(link))
        text += "".join(f"{frame.name} {frame.locals}\n" for frame in ours)
    assert PACKAGE in text
    return text


def test_credentials_are_nowhere(
    engine: Any, logged: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {**engine.kwargs, "token": f"sesame-user:{TOKEN}"}
    other = {**engine.kwargs, "user": "sesame-user", "password": PASSWORD}
    dataset, data = image_dataset(12), vectors(12)
    options = {"backend": "milvus", "metric": "cosine", "embeddings": data}
    index = fob.compute_similarity(dataset, brain_key=KEY, fields=["number"], **options, **given)
    query, ids = data[0], dataset.values("id")
    shown: list[Any] = [index, index.config, index.connection, index.connection.target]
    shown += [index._collection, index.backend, Settings.parse(given), index.search(query, k=3)]
    shown += [index.explain(query, k=3), index.evaluate(queries=3, progress=False)]
    shown += [index.sync(embeddings=data), vars(index.connection.target.settings).copy()]
    again = dataset.load_brain_results(KEY, cache=False, **other)
    again.add_to_index(data[:2], ids[:2])
    shown += [inventory.indexes(dataset), inventory.milvus_status(), again.config.serialize()]
    file = tmp_path / "out.parquet"
    shown += [moving.export_index(dataset, KEY, file), moving.adoptable(dataset)]
    shown += [moving.import_index(file, dataset, "imported", **other)]
    shown += [moving.migrate(dataset, KEY, "moved", index_type="FLAT", **given)]
    moving.export_index(dataset, "moved", tmp_path / "moved.parquet")
    shown += [json_util.dumps(dataset.get_brain_info(key).serialize()) for key in ("moved", KEY)]

    nobody = {"uri": f"http://me:{PASSWORD}@127.0.0.1:{free_port()}"}
    crashes = [
        crash(lambda: fob.compute_similarity(dataset, **{**options, "metric": "no"}, **given)),
        crash(lambda: fob.compute_similarity(dataset, **options, **given, no="unknown")),
        crash(lambda: fob.compute_similarity(dataset, **options, **given, fields=["none"])),
        crash(lambda: index.search(query, filter="no such = thing")),
        crash(lambda: index.search(unique("id"))),
        crash(lambda: again.add_to_index(data[:2, :3], ids[:2])),
        crash(lambda: dataset.load_brain_results(KEY, cache=False, **nobody).search(query)),
        crash(lambda: connect(resolve(Settings.parse(nobody), None)).client),
        crash(lambda: index.connection.run(lambda client: client.query("none", filter="pk > 1"))),
        crash(lambda: moving.migrate(dataset, KEY, "away", **nobody)),
        crash(lambda: Settings.parse({"user": "me", "password": PASSWORD, "secure": "maybe"})),
        crash(lambda: Settings.parse({"uri": "http://h", "password": PASSWORD})),
    ]
    secrets = [TOKEN, PASSWORD]
    if engine.name == "embedded":
        service = service_file.load(index.connection.target.path)
        assert service is not None
        secrets += [service.key, index.connection._endpoint.token]
    out, err = capfd.readouterr()
    database = foo.get_db_conn()
    texts = {
        "objects": "".join(f"{thing!r}\n{thing}\n" for thing in shown),
        "standard output": out + err,
        "logs": "\n".join(logged),
        "documents": json_util.dumps({n: list(database[n].find()) for n in ("runs", "datasets")}),
        **{f"crash {number}": text for number, text in enumerate(crashes)},
    }
    assert "Using" in texts["logs"] or len(logged) > 20
    for secret in secrets:
        for where, text in texts.items():
            assert secret not in text, where
        folders = [
            tmp_path,
            Path(os.environ["HOME"]),
            Path(os.environ["FIFTYONE_MILVUS_RUNTIME_DIR"]),
        ]
        if engine.name == "embedded":
            folders.append(index.connection.target.path.parent)
        found = {file.name for file in holders(secret, *folders)}
        # Which only the user can read
        assert found <= {"service.json"}, found
        for chunk in database["fs.chunks"].find():
            assert secret.encode() not in chunk["data"]
    for one in (index, dataset.load_brain_results("imported", cache=False, **given)):
        one.cleanup()
    dataset.load_brain_results("moved", cache=False, **given).cleanup()
    fo.delete_dataset(dataset.name)
