"""Each command with the defaults of a fresh user, where FiftyOne shows progress bars."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from tests.cli.test_output import commands
from tests.support.files import holders
from tests.support.indexes import credentials, image_dataset, vectors

CHILD = Path(__file__).with_name("streams_child.py")
WITH_BARS = ("sync", "export", "import")
FULL = "100% |"
SECRET = "sesame-Zq8-password"


@pytest.mark.parametrize("how", ["piped", "terminal"])
def test_results_alone_are_on_stdout(how: str) -> None:
    dataset = image_dataset(60)
    dataset.set_values("embedding", list(vectors(60)), progress=False)
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    uri = folder / "vectors.db"
    env = {
        **os.environ,
        **credentials({"uri": uri, "user": "sesame-user", "password": SECRET}),
        "FIFTYONE_BRAIN_CONFIG_PATH": str(folder / "brain.json"),
        "FIFTYONE_PLUGINS_DIR": str(folder / "plugins"),
        "PYTHONPATH": str(CHILD.parents[2]),
    }
    # What a fresh user has
    del env["FIFTYONE_SHOW_PROGRESS_BARS"]
    # Credentials are in no output, and in no file
    env["FIFTYONE_MILVUS_TRACEBACK"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.cli.streams_child", how, dataset.name, str(folder)],
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert len([file for file in folder.rglob("*") if file.is_file()]) > 10
        assert not holders(SECRET, folder)
    finally:
        embedded.stop(uri)
        shutil.rmtree(folder, ignore_errors=True)
        dataset.delete()
    runs = json.loads(done.stdout)
    for run in runs:
        arguments, out, err = run["arguments"], run["out"], run["err"]
        assert run["code"] == 0 or arguments[0] == "doctor", run
        assert "Traceback" not in err, run
        assert "█" not in out, run
        if "--json" in arguments:
            json.loads(out)
        else:
            assert out.strip(), run
            assert not any(line.startswith("Using ") for line in out.splitlines()), run
        if arguments[0] in WITH_BARS:
            assert FULL in err, run
    tried = {
        " ".join(run["arguments"][: 2 if run["arguments"][0] == "plugin" else 1]) for run in runs
    }
    # A model embeds for `check-new`, which test_curation has
    assert tried == {name for name, _ in commands()} - {"check-new", "demo", "serve"}
