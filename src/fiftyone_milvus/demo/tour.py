"""The steps of the demo: each is code that is printed, run and written to a file."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.zoo as foz
from PIL import Image
from rich.console import Console
from rich.syntax import Syntax

from fiftyone_milvus.demo import digits, model, picture
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.output_paths import check_output

_ZOO_MODEL = "clip-vit-base32-torch"
_NUM_HITS = 8

KEYS = ("image_index", "patch_index")
"""The brain keys of the demo's indexes."""

FILES = ("neighbors.png", "neighbors.html", "demo.py")
"""What the demo writes."""

OUT = "fiftyone_milvus_demo"
"""Where a dataset's info says to which folder."""

_SCRIPT = """\
#: Open the datasets, and make Milvus the engine
import fiftyone as fo
import fiftyone.brain as fob
import fiftyone_milvus  # from here on, backend="milvus" is this package
from fiftyone import ViewField as F

images = fo.load_dataset("{images}")
pages = fo.load_dataset("{pages}")

# Remove the indexes of an earlier run
for dataset, key in [(images, "image_index"), (pages, "patch_index")]:
    if dataset.has_brain_run(key):
        dataset.load_brain_results(key).cleanup()
        dataset.delete_brain_run(key)
#: Index the images
image_index = fob.compute_similarity(
    images,
    model="{model}",
    metric="cosine",
    brain_key="image_index",
    backend="milvus",
)
print(image_index.total_index_size, "images")
#: Index the patches
patch_index = fob.compute_similarity(
    pages,
    patches_field="ground_truth",
    model="{model}",
    metric="cosine",
    brain_key="patch_index",
    backend="milvus",
)
print(patch_index.total_index_size, "patches")
#: Search by image | [image]
image = images.last()
view = images.sort_by_similarity(
    image.id, k=9, brain_key="image_index", dist_field="distance"
)
#: Search by patch | [patch]
patches = pages.to_patches("ground_truth")
patch = patches.first()
view = patches.sort_by_similarity(
    patch.id, k=9, brain_key="patch_index", dist_field="distance"
)
#: Search by several images | list(some)
some = images.match({condition}).limit(3)
view = images.sort_by_similarity(
    some.values("id"), k=11, brain_key="image_index", dist_field="distance"
)
#: Search by vector | vector
two = [images.first().id, image.id]
embeddings, _, _ = image_index.get_embeddings(sample_ids=two)
vector = embeddings.mean(axis=0)  # halfway between two images
view = images.sort_by_similarity(
    vector, k=8, brain_key="image_index", dist_field="distance"
)
#: Search by text | {prompt}
view = images.sort_by_similarity(
    {prompt}, k=8, brain_key="image_index", dist_field="distance"
)
#: Search patches by text | {prompt}
view = patches.sort_by_similarity(
    {prompt}, k=8, brain_key="patch_index", dist_field="distance"
)
#: Search in a view | [images.first()]
subset = {view}
view = subset.sort_by_similarity(
    images.first().id, k=8, brain_key="image_index", dist_field="distance"
)
print("searched", len(subset), "of", len(images))
"""
"""The code of the demo: for each step its title, what it searches with, and its lines."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        title: what it does
        code: Python code, which may use the names that earlier steps set
        query: an expression for what the code searches with, or None if it does not search
    """

    title: str
    code: str
    query: str | None = None


@dataclass(frozen=True)
class Subject:
    """The datasets and the model of a demo.

    Attributes:
        images: the dataset whose images are searched
        pages: the dataset whose patches are searched; may be the same
        model: the name of the zoo model that embeds them
        prompt: the text to search for
        label: a label that several of the images have
        view: code of a view into ``images``
    """

    images: str
    pages: str
    model: str
    prompt: str
    label: str
    view: str


def prepare(dataset: str, model_name: str | None, prompt: str | None) -> Subject:
    """Builds or downloads the datasets and the model.

    Raises:
        FiftyOneMilvusError: if the dataset or the model can't be loaded
    """
    console = Console()
    if dataset == "digits":
        folder = Path(fo.config.default_dataset_dir)
        console.print("Drawing scikit-learn's handwritten digits, and pages of them")
        digits.build_images(folder / digits.IMAGES)
        digits.build_pages(folder / digits.PAGES)
        if model_name is None:
            console.print(f"Training {model.NAME}, a model that needs no torch and no download")
            model.install()
        return Subject(
            images=digits.IMAGES,
            pages=digits.PAGES,
            model=model_name or model.NAME,
            prompt=prompt or "a handwritten seven",
            label="three",
            view='images.match_tags("test")',
        )

    zoo_model = model_name or _ZOO_MODEL
    zoo_dataset = _load_from_zoo(dataset, zoo_model)
    labels = Counter(itertools.chain(*zoo_dataset.values("ground_truth.detections.label")))
    label = labels.most_common(2)[-1][0]
    return Subject(
        images=dataset,
        pages=dataset,
        model=zoo_model,
        prompt=prompt or f"a photo of a {label}",
        label=label,
        view=f"images.take({max(len(zoo_dataset) // 4, _NUM_HITS)}, seed=51)",
    )


def steps(subject: Subject) -> list[Step]:
    """Returns the demo's steps; run one after the other, they are a script."""
    label, prompt = (
        json.dumps(text, ensure_ascii=False) for text in (subject.label, subject.prompt)
    )
    condition = f'F("ground_truth.label") == {label}'
    if subject.images == subject.pages:
        condition = f'F("ground_truth.detections.label").contains({label})'
    names = {**vars(subject), "condition": condition, "prompt": prompt}
    found = []
    for part in _SCRIPT.format(**names).removeprefix("#: ").split("\n#: "):
        head, _, code = part.partition("\n")
        title, _, query = head.partition(" | ")
        found.append(Step(title, code.rstrip() + "\n", query or None))
    return found


def default_out() -> Path:
    """Returns the folder to which the demo writes by default: one beside its images."""
    return Path(fo.config.default_dataset_dir) / "milvus-demo"


def run(subject: Subject, out: Path) -> None:
    """Prints and runs every step, and writes :data:`FILES`."""
    if not (out := out.expanduser()).exists():
        out.mkdir(parents=True)
    for name in FILES:
        check_output(out / name)
    console = Console()
    names: dict[str, Any] = {}
    rows = []
    todo = steps(subject)
    highlight = Syntax("", "python", background_color="default")
    for step in todo:
        console.rule(f"[bold]{step.title}", align="left")
        # Soft-wrapped, so that the lines can be pasted
        console.print(highlight.highlight(step.code.rstrip()), soft_wrap=True, end="")
        start = time.perf_counter()
        exec(compile(step.code, f"<{step.title}>", "exec"), names)
        console.print(f"[dim]{time.perf_counter() - start:.2f} s[/dim]\n", highlight=False)
        if step.query is not None:
            rows.append(_row(step, eval(step.query, names), names["view"]))

    title = f"{subject.images}: nearest neighbors"
    picture.draw_sheet(title, rows).save(out / "neighbors.png", optimize=True)
    (out / "neighbors.html").write_text(picture.write_page(title, rows), encoding="utf-8")
    script = "\n".join(f"# {step.title}\n{step.code}" for step in todo)
    (out / "demo.py").write_text(script, encoding="utf-8")

    name, own = subject.images, subject.images == digits.IMAGES
    dataset = fo.load_dataset(name)
    dataset.info[OUT] = str(out.absolute())
    dataset.save()
    console.rule("[bold]Done", align="left")
    for what, where in (
        ("The neighbors", f"{out / 'neighbors.png'}, {out / 'neighbors.html'}"),
        ("The code", f"{out / 'demo.py'}"),
        ("In the App", f"fiftyone app launch {subject.pages}"),
        ("To remove it", "fiftyone-milvus demo --remove" + ("" if own else f" --dataset {name}")),
    ):
        console.print(f"{what:<15} {where}", highlight=False, soft_wrap=True, markup=False)


def open_app(dataset: str, port: int, address: str) -> None:
    """Opens the App on the indexed dataset and waits until its last tab is closed."""
    name = digits.PAGES if dataset == "digits" else dataset
    session = fo.launch_app(fo.load_dataset(name), port=port, address=address)
    session.wait()


def _load_from_zoo(dataset: str, model_name: str) -> fo.Dataset:
    try:
        loaded = foz.load_zoo_dataset(dataset)
    except Exception as e:
        raise FiftyOneMilvusError(
            f"Can't load {dataset!r} from FiftyOne's zoo ({_one_line(e)}); it needs internet "
            "access, which `fiftyone-milvus demo` without --dataset does not"
        ) from e
    field = loaded.get_field("ground_truth")
    if getattr(field, "document_type", None) is not fo.Detections:
        raise FiftyOneMilvusError(
            f"Dataset {dataset!r} has no detections in 'ground_truth', which the demo searches; "
            "try --dataset quickstart"
        )
    try:
        can_embed_text = foz.load_zoo_model(model_name).can_embed_prompts
    except Exception as e:
        raise FiftyOneMilvusError(
            f"Can't load the model {model_name!r} from FiftyOne's zoo ({_one_line(e)}); install "
            "its requirements (`pip install torch torchvision`), or run without --dataset"
        ) from e
    if not can_embed_text:
        raise FiftyOneMilvusError(
            f"Model {model_name!r} can't embed text, which the demo searches by; "
            f"try --model {_ZOO_MODEL}"
        )
    loaded.persistent = True
    return loaded


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _row(step: Step, query: Any, view: Any) -> picture.Row:
    without: set[str] = set()
    if isinstance(query, list):
        without = {sample.id for sample in query}
        query = [_thumbnail(sample) for sample in query]
    found = itertools.islice((s for s in view if s.id not in without), _NUM_HITS)
    hits = [
        picture.Hit(_thumbnail(s), _caption(s["ground_truth"]), float(s["distance"])) for s in found
    ]
    return picture.Row(step.title, step.code, query, hits)


def _caption(label: fo.Label | None) -> str:
    if isinstance(label, fo.Detections):
        return ", ".join(dict.fromkeys(detection.label for detection in label.detections))
    return "" if label is None else str(label.label)


def _thumbnail(sample: Any) -> Image.Image:
    with Image.open(sample.filepath) as opened:
        image = opened.convert("RGB")
    label = sample["ground_truth"]
    return _crop(image, label) if isinstance(label, fo.Detection) else image


def _crop(image: Image.Image, detection: fo.Detection) -> Image.Image:
    x, y, width, height = detection.bounding_box
    left, right = (round(position * image.width) for position in (x, x + width))
    top, bottom = (round(position * image.height) for position in (y, y + height))
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
