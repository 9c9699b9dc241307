"""An index is kept in step with its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import fiftyone.core.collections as foc
import fiftyone.zoo as foz
import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index.writes import Storing
from fiftyone_milvus.syncing import Options, SyncReport, Target, sync
from fiftyone_milvus.syncing.expected_rows import Wanted
from fiftyone_milvus.syncing.sources import (
    ArraySource,
    FieldSource,
    ModelSource,
    Parts,
    Source,
    every_label,
)


class Syncing(Storing):
    """Brings an index in step with its dataset."""

    def sync(
        self,
        samples: Any = None,
        model: Any = None,
        embeddings: Any = None,
        fields: bool | None = None,
        prune: bool = True,
        batch_size: int | None = None,
        num_workers: int | None = None,
        skip_failures: bool = True,
        progress: Any = None,
        *,
        refresh: bool = False,
        force_square: bool = False,
        alpha: float | None = None,
    ) -> SyncReport:
        """Brings the index in step with the dataset, or with a view.

        Embeds what the index lacks and uploads it meanwhile, in bounded memory; removes what is no
        longer in the dataset; brings the fields beside the vectors up to date. On a dataset that
        has not changed it only compares IDs. If it is interrupted, or fails, what was uploaded
        stays, and the next call goes on from there. Several processes may sync one index.

        Example::

            index = fob.compute_similarity(
                dataset,
                model="clip-vit-base32-torch",
                embeddings=False,  # nothing yet
                brain_key="similar",
                backend="milvus",
            )
            index.sync()  # embeds and uploads at the same time

            dataset.add_samples(more)
            print(index.sync())

        Args:
            samples (None): a view of the samples, or patches, that must be in the index; vectors of
                other samples of the dataset stay. By default, the whole dataset
            model (None): the :class:`fiftyone.core.models.Model`, or the name of a zoo model, to
                embed with. By default, the one that the index was made with
            embeddings (None): embeddings to use instead of a model: a field of the dataset that
                holds them; a ``num_samples x num_dims`` array, in the order of ``samples``; or a
                dict of sample IDs to vectors. For patches, a list or dict of
                ``num_patches x num_dims`` arrays per sample. Only what is missing is used
            fields (None): whether to bring the :attr:`fields` beside the vectors up to date. By
                default, if there are any
            prune (True): whether to remove vectors whose sample, or label, is no longer in the
                dataset. Those in a collection that is not recorded as this index's stay
            batch_size (None): the batch size of the model
            num_workers (None): the data loader's workers, for Torch models
            skip_failures (True): whether to go on where a sample can't be embedded; the report
                says which and why. Else, the first such raises
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, as ``fiftyone.config.show_progress_bars`` says
            refresh (False): whether to embed again the samples that were edited or added, or whose
                file was written, since the index was made or last refreshed
            force_square (False): whether to make the boxes of patches square
            alpha (None): how much to expand the boxes of patches, in ``[-1, inf)``

        Returns:
            a :class:`fiftyone_milvus.syncing.SyncReport`

        Raises:
            InvalidInputError: if an argument can't be used, or ``skip_failures`` is False and an
                embedding is missing or unusable
            DimensionMismatchError: if the embeddings have another dimension than the index
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        samples = self._to_sync(samples)
        if batch_size is not None and (not _is_int(batch_size) or batch_size < 1):
            raise InvalidInputError(
                f"Invalid batch_size {batch_size!r}; expected an integer above 0"
            )
        if model is not None and embeddings is not None:
            raise InvalidInputError("Give either model or embeddings, not both")
        if fields not in (None, True, False):
            raise InvalidInputError(
                f"Invalid fields {fields!r}; expected True or False: which fields there are is "
                "fixed when an index is made"
            )
        if fields and not self.config.fields:
            raise InvalidInputError(
                "This index has no fields beside its vectors; make one with "
                "compute_similarity(..., fields=[...])"
            )
        options = Options(
            prune=bool(prune),
            refresh=bool(refresh),
            update_fields=fields is not False,
            batch_size=batch_size,
            skip_failures=skip_failures,
            progress=progress,
        )
        compute = partial(
            self.compute_embeddings,
            model=self._model_of(model) if embeddings is None else None,
            num_workers=num_workers,
            skip_failures=skip_failures,
            force_square=force_square,
            alpha=alpha,
            progress=False,
        )
        source = partial(self._source, samples, embeddings, compute, options)
        report = sync(self._target(), samples, source, options)
        if self._collection.present():
            self.connection.register_orm()
        self.reload()
        return report

    def _to_sync(self, samples: Any) -> Any:
        if samples is None:
            return self._samples
        if not isinstance(samples, foc.SampleCollection):
            raise InvalidInputError(
                f"Invalid samples {samples!r:.80}; expected the dataset or a view of it"
            )
        if samples._root_dataset is not self._samples._root_dataset:
            raise InvalidInputError(
                f"Dataset '{samples._root_dataset.name}' is not the one of this index, "
                f"'{self._samples._root_dataset.name}'"
            )
        return samples

    def _model_of(self, model: Any) -> Any:
        if isinstance(model, str):
            return foz.load_zoo_model(model)
        if model is not None:
            return model
        if self._model is None and self.config.model is None:
            if self.config.embeddings_field is not None:
                return None
            raise InvalidInputError(
                "This index was made without a model that FiftyOne could load again; give model= "
                "or embeddings="
            )
        return self.get_model()

    def _source(
        self,
        samples: Any,
        embeddings: Any,
        compute: Any,
        options: Options,
        keys: Wanted,
        missing: Any,
    ) -> Source:
        patches_field = self.config.patches_field
        whole = not options.refresh and every_label(samples, len(missing), keys)
        parts = Parts(samples, patches_field, whole)
        if embeddings is None and compute.keywords["model"] is None:
            embeddings = self.config.embeddings_field
        if embeddings is None:
            return ModelSource(parts, compute, options.batch_size, options.skip_failures)
        if isinstance(embeddings, str):
            return FieldSource(parts, embeddings)
        if isinstance(embeddings, Mapping) or hasattr(embeddings, "__len__"):
            return ArraySource(parts, embeddings, samples)
        raise InvalidInputError(
            f"Invalid embeddings {embeddings!r:.80}; expected a field, an array or a dict"
        )

    def _target(self) -> Target:
        fields = self._beside()
        return Target(
            name=f"Index '{self.key or self.config.collection_name}'",
            collection=self._collection,
            create=lambda dimension: self._create(dimension, fields),
            metric=self.config.metric,
            patches_field=self.config.patches_field,
            fields=fields,
            owned=self._owned,
            dataset=self._samples._root_dataset,
        )

    def _owned(self) -> bool:
        """Whether the collection is recorded as this dataset's, and for such rows."""
        recorded, own = self._collection.layout.owner, self._owner
        return all(recorded.get(name) == own[name] for name in ("dataset_id", "patches_field"))


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
