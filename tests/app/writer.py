"""Takes samples out of an index and puts them back, again and again.

It does so with the samples of the numbers from a first to a last one. It prints a line per round
until it reads one; then it takes them out for good, says so, and puts them back when it reads the
next line. It rests in between, as the App needs a processor too.
"""

from __future__ import annotations

import sys
import threading

import fiftyone as fo


def main(name: str, key: str, first: str, last: str) -> None:
    dataset = fo.load_dataset(name)
    index = dataset.load_brain_results(key)
    numbers = dict(zip(*dataset.values(["id", "number"]), strict=True))
    ids = [_id for _id, number in numbers.items() if int(first) <= number <= int(last)]
    vectors, ids, _ = index.get_embeddings(sample_ids=ids)

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    while not stop.is_set():
        index.remove_from_index(sample_ids=ids)
        stop.wait(0.1)
        index.add_to_index(vectors, ids)
        print("round", flush=True)
        stop.wait(0.1)
    index.remove_from_index(sample_ids=ids)
    print("removed", flush=True)
    sys.stdin.readline()
    index.add_to_index(vectors, ids)
    print("added", flush=True)
