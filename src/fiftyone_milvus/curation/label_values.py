"""Labels of samples or patches: where they are, and how they are read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from bson import ObjectId

from fiftyone_milvus.curation import group_field
from fiftyone_milvus.dataset import unmarked
from fiftyone_milvus.dataset.selected import all_samples
from fiftyone_milvus.dataset.unmarked import Update
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.schema.columns import label_attribute, label_root

CONFIDENCE = "confidence"


@dataclass(frozen=True)
class LabelField:
    """A field of samples with a label each, or an attribute of patches.

    Attributes:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        name: of the field, or of the attribute
        is_new: whether it does not exist yet
        in_document: whether it is a ``Classification``; if not, it is a string
    """

    dataset: Any
    patches_field: str | None
    name: str
    is_new: bool
    in_document: bool

    @classmethod
    def find(
        cls, dataset: Any, patches_field: str | None, name: Any, *, new: bool = False
    ) -> LabelField:
        """Returns a field that can hold labels.

        Args:
            dataset: the :class:`fiftyone.core.dataset.Dataset`
            patches_field: the field of the patches, or None for samples
            name: of a field of ``Classification`` or strings, such as ``"ground_truth"``; for
                patches, of an attribute of strings, such as ``"label"``
            new (False): whether it may be one that does not exist yet

        Raises:
            InvalidInputError: if it can't hold labels, or does not exist and ``new`` is False
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidInputError(f"Invalid field {shown(name)}; expected the name of a field")
        if patches_field is not None:
            name = label_attribute(dataset, patches_field, name) or name
            field = dataset.get_field(f"{label_root(dataset, patches_field)[0]}.{name}")
        else:
            parent = dataset.get_field(name.rpartition(".")[0]) if "." in name else None
            if name.endswith(".label") and _is_classification(parent):
                name = name.rpartition(".")[0]
            field = dataset.get_field(name)
        if field is None and new and name.isidentifier():
            return cls(dataset, patches_field, name, True, patches_field is None)
        if isinstance(field, fo.StringField) or (
            patches_field is None and _is_classification(field)
        ):
            return cls(dataset, patches_field, name, False, not isinstance(field, fo.StringField))
        raise InvalidInputError(_problem(dataset, patches_field, name, field))

    @property
    def path(self) -> str:
        """The path of the labels' text, such as ``"ground_truth.label"``."""
        if self.patches_field is not None:
            return f"{label_root(self.dataset, self.patches_field)[0]}.{self.name}"
        return f"{self.name}.label" if self.in_document else self.name

    def read(self) -> dict[str, str]:
        """Returns the labels of all samples or patches that have one, by their IDs."""
        if self.is_new:
            return {}
        samples = all_samples(self.dataset)
        if self.patches_field is None:
            ids, labels = samples.values(["id", self.path])
            return {i: label for i, label in zip(ids, labels, strict=True) if label}
        root = label_root(self.dataset, self.patches_field)[0]
        found: dict[str, str] = {}
        for inside, labels in zip(*samples.values([f"{root}.id", self.path]), strict=True):
            if not isinstance(inside, list):
                inside, labels = [inside], [labels]
            found.update((i, one) for i, one in zip(inside, labels or ()) if i and one)
        return found

    def fill(self, labels: Mapping[str, tuple[str, float]], *, edit: bool) -> int:
        """Writes labels with a confidence where there is none; never over one.

        A ``Classification`` has the confidence inside; beside a string or an attribute, it is in
        ``NAME_confidence``.

        Args:
            labels: a label and its confidence in [0, 1], by sample or label ID
            edit: whether samples are marked as edited

        Returns:
            how many were written
        """
        there = self.read()
        todo = {i: one for i, one in labels.items() if i not in there}
        self._declare()
        sample_of = group_field.samples_of(self.dataset, self.patches_field, todo)
        root, filters = group_field.label_root(self.dataset, self.patches_field)

        def updates() -> Iterator[Update]:
            for i, (label, confidence) in todo.items():
                if self.in_document:
                    document = fo.Classification(label=label, confidence=confidence).to_mongo()
                    values: dict[str, Any] = {self.name: document}
                else:
                    values = {
                        f"{root}{self.name}": label,
                        f"{root}{self.name}_{CONFIDENCE}": confidence,
                    }
                # Somebody may have labeled it since the labels were read
                update, only = {"$set": values}, filters(i)
                yield Update(sample_of(i), update, only, self._unlabeled(i, in_list=bool(only)))

        return unmarked.write(self.dataset, self.name, updates(), edit=edit)

    def _unlabeled(self, label_id: str, *, in_list: bool) -> dict[str, Any]:
        """Returns MongoDB's condition that a sample, or patch, has no label."""
        nothing = {"$in": [None, ""]}
        if self.patches_field is None:
            return {self.path: nothing}
        patch = {"_id": ObjectId(label_id), self.name: nothing}
        if in_list:
            return {label_root(self.dataset, self.patches_field)[0]: {"$elemMatch": patch}}
        return {f"{self.patches_field}.{name}": value for name, value in patch.items()}

    def _declare(self) -> None:
        dataset, path = self.dataset, self.path
        if self.in_document:
            if self.is_new:
                dataset.add_sample_field(
                    self.name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification
                )
            return
        if self.is_new:
            dataset.add_sample_field(path, fo.StringField)
        beside = dataset.get_field(f"{path}_{CONFIDENCE}")
        if beside is None:
            dataset.add_sample_field(f"{path}_{CONFIDENCE}", fo.FloatField)
        elif not isinstance(beside, fo.FloatField):
            raise InvalidInputError(
                f"The field '{path}_{CONFIDENCE}' is {type(beside).__name__}, and a float field is "
                "needed for the confidence; pass another into"
            )


def store_notes(
    dataset: Any,
    patches_field: str | None,
    names: Mapping[str, type],
    rows: Mapping[str, Sequence[Any]],
) -> None:
    """Writes values of ours to fields of samples or patches, in place of earlier ones.

    Samples are not marked as edited.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        names: the fields or attributes and their types, such as ``fo.FloatField``
        rows: a value for each of them, by sample or label ID

    Raises:
        InvalidInputError: if one of the fields exists and is not ours
    """
    root, filters = group_field.label_root(dataset, patches_field)
    prefix = "" if patches_field is None else f"{label_root(dataset, patches_field)[0]}."
    for name in names:
        field = dataset.get_field(f"{prefix}{name}")
        if field is not None and _INFO not in (field.info or {}):
            raise InvalidInputError(
                f"The dataset has a field '{prefix}{name}' that this package did not make; pass "
                "another into"
            )
    for name, kind in names.items():
        dataset.add_sample_field(f"{prefix}{name}", kind)
        field = dataset.get_field(f"{prefix}{name}")
        field.info = {**(field.info or {}), _INFO: {"notes": name}}
        field.save()
    sample_of = group_field.samples_of(dataset, patches_field, rows)

    def updates() -> Iterator[Update]:
        for i, values in rows.items():
            own = {f"{root}{name}": value for name, value in zip(names, values, strict=True)}
            yield Update(sample_of(i), {"$set": own}, filters(i))

    unmarked.write(dataset, next(iter(names)), updates())


_INFO = "milvus_notes"


def _is_classification(field: Any) -> bool:
    return isinstance(field, fo.EmbeddedDocumentField) and issubclass(
        field.document_type, fo.Classification
    )


def _problem(dataset: Any, patches_field: str | None, name: str, field: Any) -> str:
    if patches_field is not None:
        root = label_root(dataset, patches_field)[0]
        known = dataset.get_field_schema(flat=True).items()
        names = sorted(
            path[len(root) + 1 :]
            for path, one in known
            if path.startswith(f"{root}.") and isinstance(one, fo.StringField)
        )
        where = f"The labels in '{patches_field}' have no attribute '{name}' of strings; "
        return where + f"those are {', '.join(names) or 'none'}"
    schema = dataset.get_field_schema().items()
    names = sorted(
        path
        for path, one in schema
        if isinstance(one, fo.StringField) or _is_classification(one)
        if path not in ("id", "filepath")
    )
    problem = "has no field" if field is None else "has no classifications or strings in"
    return (
        f"Dataset '{dataset.name}' {problem} '{name}'; fields that can hold labels are "
        f"{', '.join(names) or 'none'}"
    )
