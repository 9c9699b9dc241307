"""cleanlab's scores, in a process of an environment of its own; a JSON task as argument.

``pip install cleanlab`` brings another scikit-learn and pandas than FiftyOne may want.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

METHODS = (
    ("normalized_margin", False), ("normalized_margin", True), ("self_confidence", True),
    ("self_confidence", False),
)  # fmt: skip


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Scores labels.

    Args:
        task: ``{"rounds": path}``, of an ``.npz`` file with ``shares_N``, the share of the votes of
            each label, and ``labels_N``, the labels, for each round N

    Returns:
        the version, the quality of each label by method and round, and which ones are issues
    """
    import cleanlab
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with np.load(task["rounds"]) as found:
        count = sum(name.startswith("labels_") for name in found)
        rounds = [(found[f"labels_{n}"], found[f"shares_{n}"]) for n in range(count)]
    rounds = [(labels, s / s.sum(axis=1, keepdims=True)) for labels, s in rounds]
    scores: dict[str, Any] = {}
    for method, adjusted in METHODS:
        options = {"method": method, "adjust_pred_probs": adjusted}
        scores[f"{method}{', adjusted' if adjusted else ''}"] = [
            get_label_quality_scores(labels, shares, **options).tolist()
            for labels, shares in rounds
        ]
    issues = [find_label_issues(labels, shares).tolist() for labels, shares in rounds]
    return {"version": cleanlab.__version__, "scores": scores, "issues": issues}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))), flush=True)
