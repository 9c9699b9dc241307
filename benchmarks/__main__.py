"""``python -m benchmarks``: see the package."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import signal
import sys
import time
from pathlib import Path

from benchmarks.world import world

_PACKAGES = ("fiftyone", "fiftyone-brain", "pymilvus", "milvus-lite", "milvus", "numpy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--engine", choices=("embedded", "server", "both"), default="both")
    parser.add_argument("--rows", type=int, default=100_000, help="of the large index")
    parser.add_argument("--dim", type=int, default=512, help="of its vectors")
    parser.add_argument("--only", action="append", metavar="NAME", help="a case; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    args = parser.parse_args()

    # What was started is ended however the run ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)

    names = ["embedded", "server"] if args.engine == "both" else [args.engine]
    with world(args.rows, args.dim, names) as found:
        from benchmarks import plots, report
        from benchmarks.cases import CASES

        unknown = set(args.only or ()) - set(CASES)
        if unknown:
            parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
        for name in args.only or CASES:
            start = time.perf_counter()
            tables = CASES[name](found)
            report.write(args.out, tables, _machine(args.rows, args.dim))
            plots.draw(args.out)
            for table in tables:
                print(f"\n{table.name}\n{table.markdown()}")
                for goal in table.goals:
                    verdict = "met   " if goal.met else "MISSED"
                    ratios = f"{goal.found:.2f} (median {goal.median:.2f})"
                    print(f"  {verdict} {goal.text}: {ratios}, {goal.wanted}")
            print(f"({name}: {time.perf_counter() - start:.0f} s, load {os.getloadavg()[0]:.1f})")
            sys.stdout.flush()
    return 0


def _machine(rows: int, dim: int) -> dict[str, str]:
    versions = (f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": f"{platform.python_version()}, {', '.join(versions)}",
        "vectors": f"{rows:,} x {dim} float32, unit length, 200 clusters, cosine",
        "date": time.strftime("%Y-%m-%d"),
        "load": f"{os.getloadavg()[0]:.1f} when written",
    }


if __name__ == "__main__":
    sys.exit(main())
