"""Find what is unique."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, results, scope
from fiftyone_milvus.plugin.jobs import Job
from fiftyone_milvus.plugin.operator import MilvusOperator, Report
from fiftyone_milvus.plugin.operators.find_duplicates import (
    choose_result,
    result_of,
    show,
    tag_of,
)

DEFAULT_COUNT = 100
"""How many are found where neither a number nor a distance is given."""


class FindUnique(MilvusOperator):
    """Finds samples or patches that differ from each other: a number of them, or all that do."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="find_unique",
            label="Milvus: find unique samples",
            description="Find a number of samples that differ most from each other",
            icon="auto_awesome",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="LOW",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        forms.choose_index(ctx, inputs)
        inputs.int("count", min=1, label="How many", description="100, unless you give a distance")
        inputs.float(
            "thresh", label="Distance", description="All that are farther than it from each other"
        )
        choose_result(ctx, inputs, "unique", "in the order of the index")
        forms.choose_target(ctx, inputs, verb="Look at", default="dataset")
        return types.Property(inputs, view=types.View(label="Find unique samples"))

    def job(self, ctx: Any) -> Job:
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), "Finding unique samples")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        params = ctx.params
        count, thresh = params.get("count"), params.get("thresh")
        if count is not None and thresh is not None:
            raise InvalidInputError("Give count or thresh, not both")
        if count is None and thresh is None:
            count = DEFAULT_COUNT
        if thresh is None:
            count = check_integer("count", count)
        result = result_of(params)
        samples = forms.target_of(ctx)
        tag = tag_of(params, "unique")
        report(None, "Reading vectors and comparing")
        own = scope.restricted(index, samples)
        if thresh is None:
            own.find_unique(count)
        else:
            own.find_duplicates(thresh=thresh)
        found = [str(i) for i in own.unique_ids]
        thresh = own.thresh
        field = index.config.patches_field
        if result == "tag":
            results.tag(ctx.dataset, field, found, tag)
        return {
            "brain_key": index.key,
            "patches_field": field,
            "ids": found,
            "shown": found,
            "thresh": None if thresh is None else float(thresh),
            "result": result,
        }

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"{len(result['ids']):,} unique", "success"

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        yield from show(ctx, result)
