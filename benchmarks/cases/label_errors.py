"""Labels that neighbors contradict, next to cleanlab's scores of the same votes.

A twentieth of the labels of scikit-learn's digits are changed to another digit, five times over.
cleanlab runs in a Python of its own, which ``CLEANLAB_PYTHON`` names.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.vectors import Array
from benchmarks.world import World

CLEANLAB = "CLEANLAB_PYTHON"
SHARE = 0.05
NEIGHBORS = 10
ROUNDS = 5


def run(world: World) -> list[Table]:
    from sklearn.metrics import average_precision_score

    from fiftyone_milvus.curation import label_errors
    from fiftyone_milvus.curation.votes import votes
    from fiftyone_milvus.demo import digits
    from fiftyone_milvus.neighborhoods import Vectors

    scans, right = digits.scans()
    rows = np.arange(len(right))
    rounds: dict[str, Array] = {}
    wrong: list[Array] = []
    doubts: list[Array] = []
    for seed in range(ROUNDS):
        labels, changed = _changed(right, seed)
        with Vectors.of(scans.reshape(len(scans), -1), "euclidean") as points:
            ballot = votes(points, rows, rows, labels, NEIGHBORS, weighted=True)
        classes = [str(digit) for digit in range(10)]
        found = label_errors.found(ballot, labels, classes, list(map(str, rows)), field="digit")
        place = np.empty(len(rows))
        place[list(map(int, found.ids))] = -rows
        doubts.append(place)
        wrong.append(changed)
        rounds |= {f"labels_{seed}": labels, f"shares_{seed}": ballot.probabilities(10)}

    def row(name: str, scores: list[Any]) -> tuple[str, ...]:
        """What ranks those first that have the largest scores."""
        precision = [average_precision_score(w, x) for w, x in zip(wrong, scores, strict=True)]
        first = [
            w[np.argsort(-np.asarray(x), kind="stable")[: w.sum()]].mean()
            for w, x in zip(wrong, scores, strict=True)
        ]
        return name, f"{np.mean(precision):.3f}", f"{np.mean(first):.3f}"

    table = [row("find_label_errors", doubts)]
    raw: dict[str, Any] = {}
    if CLEANLAB in os.environ:
        theirs = _cleanlab(world.root / "rounds.npz", rounds)
        version = theirs["version"]
        for method, quality in theirs["scores"].items():
            scores = [-np.array(one) for one in quality]
            table.append(row(f"cleanlab {version}, {method}", scores))
        issues = [np.array(one) for one in theirs["issues"]]
        raw = {
            "issues": float(np.mean([one.sum() for one in issues])),
            "changed": float(np.mean([w[one].mean() for w, one in zip(wrong, issues)])),
        }
    else:
        table.append((f"cleanlab: not measured, set {CLEANLAB} to a Python that has it", "", ""))
    columns = ("score, of the same neighbors", "average precision", f"recall at {wrong[0].sum()}")
    return [Table("label_errors", columns, table, raw=raw)]


def _changed(right: Array, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(right), round(SHARE * len(right)), replace=False)
    labels, changed = right.copy(), np.zeros(len(right), dtype=bool)
    labels[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
    changed[chosen] = True
    return labels, changed


def _cleanlab(path: Path, rounds: dict[str, Array]) -> dict[str, Any]:
    np.savez(path, **rounds)
    script = Path(__file__).parents[1] / "cleanlab_child.py"
    done = subprocess.run(
        [os.environ[CLEANLAB], str(script), json.dumps({"rounds": str(path)})],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
