"""The operator that searches an index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus import inventory
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.index.asked import Text
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.plugin import distance_field, forms, queries, searches
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report, from_app
from fiftyone_milvus.plugin.places import Place
from fiftyone_milvus.plugin.queries import Selection
from fiftyone_milvus.search import stored_distances
from fiftyone_milvus.search.expressions import ExpressionScope

_QUERIES = ("selection", "text", "image", "recent")


@dataclass(frozen=True)
class Asked:
    """A search as it was asked for.

    Attributes:
        params: the caller's, or those of a recent search
        selection: what was selected, for a search by selection
        image: the uploaded image, for a search by one
        feedback: what was chosen among its results: the IDs under ``"more"`` and ``"less"``
    """

    params: Mapping[str, Any]
    selection: Selection | None = None
    image: Mapping[str, str] | None = None
    feedback: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, ctx: Any, *, patches: bool) -> Asked:
        """Returns what the caller asks for.

        Raises:
            InvalidInputError: if it is no search, or a recent one that is not kept any more
        """
        params = ctx.params
        query = params.get("query") or ("text" if params.get("text") else "selection")
        if query not in _QUERIES:
            raise InvalidInputError(f"Unknown query {query!r}; expected one of {_QUERIES}")
        if query == "recent":
            return cls.again(ctx, searches.get(ctx.dataset, params.get("recent")))
        selection = queries.selected(ctx, patches=patches) if query == "selection" else None
        image = params.get("image") if query == "image" else None
        return cls({**params, "query": query}, selection, image)

    @classmethod
    def again(cls, ctx: Any, kept: searches.Search | None) -> Asked:
        """Returns a recent search, to repeat it."""
        if kept is None or not kept.title:
            raise InvalidInputError("This search is not kept any more; search again")
        selection = Selection(**kept.selected) if kept.selected else None
        return cls(kept.params, selection, kept.image, kept.feedback)

    def question(self, ctx: Any, index: Any) -> dict[str, Any]:
        """Returns what ``index.search()`` takes.

        Raises:
            InvalidInputError: if the index can't be searched by it
        """
        question = {"query": self.vector(ctx, index)}
        for name, argument in (("more", "like"), ("less", "unlike")):
            if ids := self.feedback.get(name):
                question[argument] = queries.vectors_of(index, ids)
        return question

    def vector(self, ctx: Any, index: Any) -> Any:
        """Returns the query as ``index.search()`` takes it.

        Raises:
            InvalidInputError: if the index can't be searched by it
        """
        if self.selection is not None:
            if self.params.get("query") == "selection" and ctx.params.get("query") != "recent":
                queries.check_selection(ctx, index, self.selection)
            return queries.by_selection(index, self.selection)
        if self.params["query"] == "image":
            return queries.uploaded(self.image, index)
        text = self.params.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError("Give a text to search for")
        if not index.config.supports_prompts:
            raise InvalidInputError(
                f"Index '{index.key}' can't be searched by text: its model embeds no prompts; "
                "create one with a CLIP model"
            )
        # Whoever types here may not read the files and addresses that this process can
        return Text(text)

    @property
    def title(self) -> str:
        """What is searched for, in a few words."""
        counts = {name: len(ids) for name, ids in self.feedback.items() if ids}
        return ", ".join(
            [self._base_title, *(f"{count:,} {name}" for name, count in counts.items())]
        )

    @property
    def _base_title(self) -> str:
        if self.selection is not None:
            return self.selection.words
        if self.params["query"] == "image":
            return str((self.image or {}).get("name") or "an image")
        return str(self.params.get("text"))


class Search(MilvusOperator):
    """Search by selection, text or image, with filters and distances."""

    info = Info(
        name="search",
        title="search",
        icon="image_search",
        risk="LOW",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        forms.choose_target(ctx, inputs, verb="Search", default="view")
        key = forms.choose_index(ctx, inputs)
        config = None if key is None else ctx.dataset.get_brain_info(key).config
        query = _choose_query(ctx, inputs, config)
        inputs.bool(
            "show_distances",
            default=False,
            label="Show distances",
            description="Write each distance on its thumbnail",
            view=types.CheckboxView(),
        )
        if query == "recent":
            return
        inputs.bool("advanced", default=False, label="Options", view=types.SwitchView())
        if ctx.params.get("advanced"):
            _options(ctx, inputs, key, config)

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key = _key_of(ctx)
        index = ctx.dataset.load_brain_results(key)
        asked = Asked.of(ctx, patches=index.config.patches_field is not None)
        result = self.find(ctx, index, asked, forms.target_of(ctx, "view"))
        if from_app(ctx) and result["ids"]:
            shown, within = searches.shown(ctx), forms.within(ctx, "view")
            searched = Place() if not within.stages else shown.searched
            keep(ctx, asked, result, within, searched, shown.before)
        return result

    def find_in(self, ctx: Any, kept: searches.Search, asked: Asked) -> dict[str, Any]:
        """Searches where a kept search did; returns the result for Python callers."""
        index = ctx.dataset.load_brain_results(str(kept.params["brain_key"]))
        return self.find(ctx, index, asked, Place.from_dict(kept.within).view(ctx.dataset))

    def go_on(self, ctx: Any, kept: searches.Search, asked: Asked) -> dict[str, Any]:
        """Searches where a kept search did, and keeps the new search with the same places."""
        result = self.find_in(ctx, kept, asked)
        if from_app(ctx) and result["ids"]:
            places = [Place.from_dict(d) for d in (kept.within, kept.searched, kept.before)]
            keep(ctx, asked, result, *places)
        return result

    def find(self, ctx: Any, index: Any, asked: Asked, samples: Any) -> dict[str, Any]:
        """Searches some samples; returns the result for Python callers."""
        params, patches_field = asked.params, index.config.patches_field
        question = asked.question(ctx, index)
        field = params.get("dist_field") or None
        if field is not None:
            stored_distances.check(samples, patches_field, field)
        found = index._restricted(samples).search(
            **question,
            k=params.get("k"),
            filter=params.get("filter") or None,
            max_distance=params.get("max_distance"),
            group_by="sample_id" if params.get("best_only") else None,
            reverse=bool(params.get("reverse")),
            diverse=params.get("diverse"),
        )
        if field is not None:
            found.view(dist_field=field)
        return {
            "brain_key": index.key,
            "patches_field": patches_field,
            "ids": found.ids,
            "sample_ids": found.sample_ids,
            "distances": found.distances.tolist(),
        }

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        ids, distances = result["ids"], result["distances"]
        # Diverse results are not in the order of their distances
        if ids and distances[0] <= distances[-1]:
            distances = sorted(distances)
        if not ids:
            return "No results; try a larger distance, another filter or more samples", "warning"
        what = "samples" if result["patches_field"] is None else "patches"
        text = f"{len(ids):,} {what}, distances {distances[0]:.3g} to {distances[-1]:.3g}"
        return text, "success"

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        if not result["ids"]:
            yield self.ask_again(ctx, self.message(result)[0])
            return
        yield ctx.ops.clear_selected_samples()
        yield ctx.ops.clear_selected_labels()
        found = selected.view_of(ctx.dataset, result["patches_field"], result["ids"])
        field = None
        if ctx.params.get("show_distances"):
            field = distance_field.show(found, result["ids"], result["distances"])
        yield ctx.ops.set_view(found)
        if field is not None:
            yield from distance_field.draw(ctx, field)


def keep(
    ctx: Any,
    asked: Asked,
    result: Mapping[str, Any],
    within: Place,
    searched: Place,
    before: Place,
) -> None:
    """Keeps a search among the recent ones, with the places that its user can go back to."""
    given = {n: v for n, v in asked.params.items() if n in searches.PARAMS and v}
    search = searches.Search(
        title=asked.title,
        params={**given, "brain_key": result["brain_key"]},
        selected=asdict(asked.selection) if asked.selection else {},
        image=asked.image,
        feedback=dict(asked.feedback),
        count=len(result["ids"]),
        found=searches.found(result["ids"]),
        within=within.to_dict(),
        searched=searched.to_dict(),
        before=before.to_dict(),
    )
    searches.keep(ctx.dataset, search)


def _key_of(ctx: Any) -> str:
    if ctx.params.get("query") != "recent":
        return forms.key_of(ctx)
    kept = searches.get(ctx.dataset, ctx.params.get("recent"))
    key = str(Asked.again(ctx, kept).params["brain_key"])
    open_index(ctx.dataset, key)
    return key


def _choose_query(ctx: Any, inputs: Any, config: Any) -> str:
    """Adds the choice of what to search by; returns it."""
    prompts = bool(getattr(config, "supports_prompts", False))
    patches = getattr(config, "patches_field", None) is not None
    words = queries.selected(ctx, patches=patches).words
    labels = {"selection": f"Selection ({words or 'none'})"}
    if prompts:
        labels["text"] = "Text"
    if getattr(config, "model", None) is not None:
        labels["image"] = "Image"
    if searches.any_recent(ctx.dataset):
        labels["recent"] = "Recent"
    default = "text" if prompts and not words else "selection"
    view = types.RadioGroup(orientation="horizontal")
    forms.choose(inputs, "query", labels, view, default=default, label="Search by")
    query = str(ctx.params.get("query") or default)
    if query == "text":
        # Browsers send a form with one box by Enter; the App sends any form by Ctrl+Enter
        one_box = not ctx.params.get("advanced") and len(inventory.keys(ctx.dataset)) == 1
        keys = "Enter" if one_box else "Ctrl+Enter"
        inputs.str("text", required=True, label="Text", description=f"{keys} starts the search")
    elif query == "image":
        inputs.uploaded_file("image", required=True, label="Image")
        if ctx.params.get("image"):
            with forms.problems(inputs):
                queries.show(ctx.params["image"], inputs)
    elif query == "recent":
        _choose_recent(ctx, inputs, searches.recent(ctx.dataset))
    elif not words:
        inputs.view(
            "nothing",
            types.Warning(label="Select samples in the grid first; Alt-click selects negatives"),
        )
    return query


def _choose_recent(ctx: Any, inputs: Any, recent: list[searches.Search]) -> None:
    if not recent:
        inputs.view("no_recent", types.Warning(label="No recent search can be repeated"))
        return
    labels = {one.key: (one.title, _describe(one)) for one in recent}
    view, default = types.DropdownView(), recent[0].key
    forms.choose(
        inputs, "recent", labels, view, required=True, default=default, label="Recent search"
    )
    chosen = {one.key: one for one in recent}.get(ctx.params.get("recent"), recent[0])
    inputs.md(f"{chosen.title}: {_describe(chosen)}", name="described")


def _describe(search: searches.Search) -> str:
    """Returns the index, the options and the age of a search."""
    params = search.params
    names = ("k", "max_distance", "filter", "diverse")
    parts = [f"{name} {params[name]}" for name in names if params.get(name) is not None]
    parts += [word for name, word in _FLAGS.items() if params.get(name)]
    minutes = max(0, round((time.time() - search.when) / 60))
    ago = f"{minutes} min ago" if minutes < 120 else f"{minutes // 60:,} h ago"
    return ", ".join([f"index {params['brain_key']}", *parts, f"{search.count:,} results", ago])


_FLAGS = {"best_only": "best of each sample", "reverse": "least similar"}


def _options(ctx: Any, inputs: Any, key: str | None, config: Any) -> None:
    inputs.int(
        "k", min=1, label="How many", description="By default 25, unless you give a distance"
    )
    inputs.float(
        "max_distance",
        label="Largest distance",
        description="Leave out results that are farther; without a number, show all others",
    )
    _filter(ctx, inputs, key)
    if config is not None and config.patches_field is not None:
        inputs.bool(
            "best_only",
            label="Best of each sample",
            description="Only the closest patch of each sample",
        )
    inputs.bool("reverse", label="Least similar", description="The farthest first")
    inputs.float(
        "diverse",
        min=0,
        max=1,
        label="Diverse",
        description="From 0 to 1: how much the results should differ from each other",
    )
    problem = _problem_of_field(ctx, config)
    inputs.str(
        "dist_field",
        label="Distance field",
        description="Store distances in this field",
        invalid=problem is not None,
        error_message=problem or "",
    )
    if problem is not None:
        inputs.view("dist_field_problem", types.Error(label=problem))


def _filter(ctx: Any, inputs: Any, key: str | None) -> None:
    """Adds the filter, which is checked while the user types."""
    paths: tuple[str, ...] = ()
    said, problem = "", None
    text = ctx.params.get("filter")
    if key is not None and from_app(ctx):
        try:
            index = open_index(ctx.dataset, key)
            paths = tuple(index.fields)
            if text:
                size = ExpressionScope(index._collection, text).size
                said = f"{size:,} of {index.total_index_size:,} vectors match"
        except FiftyOneMilvusError as error:
            problem = str(error)
    has = f"this index has {', '.join(paths)}" if paths else "this index has no metadata fields"
    inputs.str(
        "filter",
        label="Filter",
        description=f'A condition on metadata fields, such as split == "test"; {has}',
        invalid=problem is not None,
        error_message=problem or "",
    )
    if problem is not None:
        inputs.view("filter_problem", types.Error(label=problem))
    elif said:
        inputs.md(said, name="filter_matches")


def _problem_of_field(ctx: Any, config: Any) -> str | None:
    name = ctx.params.get("dist_field")
    if not name or config is None:
        return None
    try:
        stored_distances.check(forms.target_of(ctx, "view"), config.patches_field, name)
    except InvalidInputError as error:
        return str(error)
    return None
