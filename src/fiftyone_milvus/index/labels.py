"""Labels from neighbors: predicted where there is none, and doubted where they contradict."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.curation import label_errors, prompts
from fiftyone_milvus.curation.confusion import Confusion
from fiftyone_milvus.curation.label_errors import LabelErrors
from fiftyone_milvus.curation.label_values import LabelField
from fiftyone_milvus.curation.predictions import Predictions
from fiftyone_milvus.curation.votes import votes
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import asked
from fiftyone_milvus.index.existing import IndexExisting
from fiftyone_milvus.index.queries import IndexQueries
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import check_flag, check_fraction, check_integer

logger = logging.getLogger(__name__)

NEIGHBORS = 10
_HELD_OUT = 1_000


class IndexLabels(IndexExisting, IndexQueries):
    """Predicts labels, and finds those that are probably wrong."""

    def predict_labels(
        self,
        field: str,
        k: int | None = None,
        weighted: bool | None = None,
        *,
        into: str | bool | None = None,
        min_confidence: float = 0.0,
        prompts: Any = None,
        progress: Any = None,
    ) -> Predictions:
        """Predicts the labels that are missing, and writes them with a confidence.

        Of the current :meth:`view`. The ``k`` nearest neighbors with a label vote; they are found
        exactly, from one read of the vectors. A label that is there is never overwritten. With
        ``prompts``, the label is that of the nearest text, and no labels are needed.

        Example::

            predictions = index.predict_labels("ground_truth", min_confidence=0.8)
            print(predictions)
            session.view = predictions.view(100)  # the least confident

        Args:
            field: a field of ``Classification`` or strings. For an index of patches, an attribute
                of their labels, such as ``"label"``
            k (None): how many neighbors vote; by default 10
            weighted (None): whether a neighbor counts by the inverse of its distance (True), or all
                count the same (False). By default True, except for ``dotproduct``, where it is not
                possible
            into (None): the field, or attribute, that is written: ``field`` itself, another one, or
                a new one, by default ``FIELD_predicted``. False to write nothing; then call
                :meth:`~fiftyone_milvus.curation.predictions.Predictions.save`
            min_confidence (0): labels with a smaller confidence are left out
            prompts (None): a dict from labels to texts, or a list of labels that are their own
                texts. Needs a model that takes text. The confidence is the softmax of the negative
                distances divided by 0.01
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.predictions.Predictions`

        Raises:
            InvalidInputError: if an argument can't be used, there are no labels to learn from, or
                the model takes no text
        """
        dataset, patches_field = self._samples._root_dataset, self.config.patches_field
        source = LabelField.find(dataset, patches_field, field, new=prompts is not None)
        least = check_fraction(min_confidence, "min_confidence")
        if into is not False and into is not None:
            LabelField.find(dataset, patches_field, into, new=True)
        elif into is None:
            LabelField.find(dataset, patches_field, f"{source.name}_predicted", new=True)
        texts = None if prompts is None else _texts(prompts, k, weighted)
        k, weighted = self._check_votes(k, weighted)
        start = time.monotonic()
        ids, stale, no_embedding = self._existing()
        classes, codes = _coded(source, ids)
        missing, labeled = np.flatnonzero(codes < 0), np.flatnonzero(codes >= 0)
        confusion = None
        if texts is not None:
            classes, labeled = list(texts), labeled[:0]
            winners, confidences = self._by_prompts([ids[i] for i in missing], texts, progress)
        else:
            _check_labels(source, labeled, classes)
            with self._vectors(ids, progress) as points:
                ballot = votes(
                    points, missing, labeled, codes, k, weighted=weighted, progress=progress
                )
                winners, confidences = ballot.winners()
                confusion = _held_out(points, labeled, codes, classes, k, weighted)
        sure = np.flatnonzero(confidences >= least)
        result = Predictions(
            source.name,
            [ids[missing[i]] for i in sure],
            [classes[winners[i]] for i in sure],
            confidences[sure],
            len(labeled),
            len(missing) - len(sure),
            no_embedding,
            stale,
            confusion,
            _dataset=dataset,
            _patches_field=patches_field,
        )
        if into is not False:
            result.save(into if isinstance(into, str) else None)
        logger.info("%s in %.1f s", result, time.monotonic() - start)
        return result

    def find_label_errors(
        self,
        field: str,
        k: int | None = None,
        weighted: bool | None = None,
        *,
        progress: Any = None,
    ) -> LabelErrors:
        """Ranks labels by how much their neighbors contradict them.

        Of the current :meth:`view`. The ``k`` nearest others with a label vote, so each label is
        held out of its own vote; they are found exactly, from one read of the vectors. Nothing is
        written until you call :meth:`~fiftyone_milvus.curation.label_errors.LabelErrors.save`.

        Example::

            errors = index.find_label_errors("ground_truth")
            session.view = errors.view()  # the most suspicious first

        Args:
            field: a field of ``Classification`` or strings. For an index of patches, an attribute
                of their labels, such as ``"label"``
            k (None): how many neighbors vote; by default 10
            weighted (None): whether a neighbor counts by the inverse of its distance (True), or all
                count the same (False). By default True, except for ``dotproduct``, where it is not
                possible
            progress (None): whether to show progress bars, or a function to call with FiftyOne's

        Returns:
            the :class:`fiftyone_milvus.curation.label_errors.LabelErrors`

        Raises:
            InvalidInputError: if an argument can't be used, or there are fewer than two labels
        """
        dataset, patches_field = self._samples._root_dataset, self.config.patches_field
        source = LabelField.find(dataset, patches_field, field)
        k, weighted = self._check_votes(k, weighted)
        start = time.monotonic()
        ids, stale, no_embedding = self._existing()
        classes, codes = _coded(source, ids)
        labeled = np.flatnonzero(codes >= 0)
        _check_labels(source, labeled, classes)
        with self._vectors(ids, progress) as points:
            ballot = votes(points, labeled, labeled, codes, k, weighted=weighted, progress=progress)
        result = label_errors.found(
            ballot,
            codes[labeled],
            classes,
            [ids[i] for i in labeled],
            field=source.name,
            no_embedding=no_embedding,
            stale=stale,
            unlabeled=len(ids) - len(labeled),
            _dataset=dataset,
            _patches_field=patches_field,
        )
        logger.info("%s, in %.1f s", result, time.monotonic() - start)
        return result

    def _check_votes(self, k: Any, weighted: Any) -> tuple[int, bool]:
        """Returns the number of neighbors, and whether their distance counts."""
        inner = self.config.metric == "dotproduct"
        if weighted is not None:
            weighted = check_flag("weighted", weighted)
            if weighted and inner:
                raise InvalidInputError(
                    "weighted=True needs distances above 0, which those of metric 'dotproduct' are "
                    "not; leave weighted out"
                )
        number = NEIGHBORS if k is None else check_integer("k", k)
        return number, not inner if weighted is None else bool(weighted)

    def _by_prompts(
        self, ids: list[str], texts: dict[str, str], progress: Any
    ) -> tuple[Array, Array]:
        query = self._parse_query(asked.texts(list(texts.values())))
        embedded = self._parse_vectors(query)[0]
        if not ids:
            return np.empty(0, np.int64), np.empty(0)
        with Vectors(len(ids) + len(embedded), embedded.shape[1], self.config.metric) as points:
            neighborhoods.read_into(points, 0, self._collection, ids, progress=progress)
            points.fill(len(ids), embedded)
            return prompts.nearest_prompts(points, len(ids))


def _texts(given: Any, k: Any, weighted: Any) -> dict[str, str]:
    if k is not None or weighted is not None:
        raise InvalidInputError("k and weighted are for neighbors; leave them out with prompts")
    return prompts.parse(given)


def _coded(source: LabelField, ids: list[str]) -> tuple[list[str], Array]:
    """Returns the different labels, sorted, and the position of each ID's among them, or -1."""
    labels = source.read()
    classes = sorted({labels[i] for i in ids if i in labels})
    at = {label: code for code, label in enumerate(classes)}
    codes = [at[labels[i]] if i in labels else -1 for i in ids]
    return classes, np.array(codes, dtype=np.int64)


def _check_labels(source: LabelField, labeled: Array, classes: list[str]) -> None:
    if len(labeled) < 2 or not classes:
        raise InvalidInputError(
            f"'{source.name}' has {len(labeled)} labels in the index, and at least 2 are needed; "
            "label some, add them with sync(), or pass prompts"
        )


def _held_out(
    points: Vectors, labeled: Array, codes: Array, classes: list[str], k: int, weighted: bool
) -> Confusion:
    rng = np.random.default_rng(51)
    count = min(_HELD_OUT, len(labeled))
    rows = np.sort(rng.choice(labeled, count, replace=False))
    ballot = votes(points, rows, labeled, codes, k, weighted=weighted, progress=False)
    winners, _ = ballot.winners()
    has, says = ([classes[i] for i in numbers] for numbers in (codes[rows], winners))
    return Confusion.of(has, says)
