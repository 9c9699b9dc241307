"""Brings an index up to date with its dataset."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import fiftyone.zoo as foz

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.index.writes import NO_METADATA_FIELDS, IndexWrites
from fiftyone_milvus.numbers import as_number, check_batch_size, check_flag, check_integer
from fiftyone_milvus.syncing import Options, SyncReport, Target, sync
from fiftyone_milvus.syncing import shard as shards
from fiftyone_milvus.syncing.pool import Pool
from fiftyone_milvus.syncing.processes import ProcessPool
from fiftyone_milvus.syncing.ray_pool import RayPool, check_address
from fiftyone_milvus.syncing.sources import ArraySource, FieldSource, ModelSource, Source
from fiftyone_milvus.syncing.worker import Job
from fiftyone_milvus.syncing.workers import WorkersSource, packed


def _check_alpha(value: Any) -> float:
    number = as_number(value)
    if number is None or not -1 <= number < math.inf:
        raise InvalidInputError(f"Invalid alpha {shown(value)}; expected a number of at least -1")
    return float(number)


def _check_gpus(value: Any, ray: Any) -> float:
    if value is None:
        return 0
    if ray is None:
        raise InvalidInputError(
            "gpus_per_worker is for ray=, as the processes of workers= would share each GPU; pass "
            "ray='auto', or leave it out"
        )
    number = as_number(value)
    if number is None or not 0 <= number < math.inf or (number > 1 and number != int(number)):
        raise InvalidInputError(
            f"Invalid gpus_per_worker {shown(value)}; expected an integer of at least 0, or a part "
            "of one GPU such as 0.5"
        )
    return number


@dataclass(frozen=True)
class _Workers:
    """What embeds, other than this process.

    Attributes:
        count: how many workers
        ray: the address of the cluster they run on; None for processes of this machine
        gpus: how many GPUs each needs
    """

    count: int | None
    ray: str | None
    gpus: float

    @property
    def name(self) -> str:
        return "workers" if self.ray is None else "ray"

    def __str__(self) -> str:
        return f"workers={self.count}" if self.ray is None else f"ray='{self.ray}' workers"


class IndexSync(IndexWrites):
    """Embeds what is missing, and removes what is stale."""

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
        shard: tuple[int, int] | None = None,
        workers: int | None = None,
        ray: str | None = None,
        gpus_per_worker: float | None = None,
    ) -> SyncReport:
        """Brings the index up to date with the dataset, or with a view.

        Embeds what is missing and uploads it at the same time, in bounded memory; removes the
        vectors of deleted samples; brings the metadata fields up to date. If the dataset has not
        changed, it only compares IDs. If it fails or is interrupted, what was uploaded stays, and
        the next call uploads the rest. Several processes may sync one index. A model's embeddings
        are stored in Milvus only, not in a field of the dataset.

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
                embed with. By default, the model that the index was made with
            embeddings (None): embeddings to use instead of a model: a field of the dataset that
                contains them; a ``num_samples x num_dims`` array, in the order of ``samples``; or a
                dict of sample IDs to vectors. For patches, a list or dict of
                ``num_patches x num_dims`` arrays per sample. Only what is missing is used
            fields (None): whether to bring the metadata :attr:`fields` up to date. By default, if
                there are any
            prune (True): whether to remove vectors whose sample, or label, was deleted from the
                dataset. They stay if the collection is not recorded as this index's, or if they are
                of another dataset whose brain run uses the collection too, such as a clone's
            batch_size (None): the batch size of the model
            num_workers (None): the data loader's workers, for Torch models; for other models of
                whole images, the threads that read them
            skip_failures (True): whether to continue if a sample can't be embedded; the report
                says which and why. If False, the first such sample raises an error
            progress (None): whether to show progress bars, or a function to call with FiftyOne's.
                By default, ``fiftyone.config.show_progress_bars`` decides
            refresh (False): whether to embed again the samples that were edited or added, or whose
                file was written, since the index was made or last refreshed
            force_square (False): whether to make the boxes of patches square
            alpha (None): how much to expand the boxes of patches, in ``[-1, inf)``
            shard (None): a part ``(i, n)`` of the samples, ``0 <= i < n``, chosen by their IDs.
                Each of ``n`` processes, at any time and on any machine, adds one part. A shard
                removes nothing, and leaves the metadata fields of existing rows alone; call
                :meth:`sync` once without it at the end
            workers (None): how many processes of this machine embed, for models without a GPU. Each
                loads the model, and needs its memory. By default, this process alone. With ``ray``,
                how many actors of the cluster; by default, as many as it has room for
            ray (None): embed on a Ray cluster that this machine is a node of: ``"auto"``, or its
                ``HOST:PORT``. Its nodes have this package, and the media at the same paths; only
                this process writes to Milvus. A process that has called ``ray.init()`` stays
                connected. Needs ``pip install 'fiftyone-milvus[ray]'``
            gpus_per_worker (None): how many GPUs each actor needs, which may be a part of one such
                as 0.5. By default, none; each has one processor

        Returns:
            a :class:`fiftyone_milvus.syncing.SyncReport`

        Raises:
            InvalidInputError: if an argument can't be used, or ``skip_failures`` is False and an
                embedding is missing or unusable
            DimensionMismatchError: if the embeddings have another dimension than the index
            WorkerError: if workers end again and again, or Ray does not answer or starts none
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        samples = self._synced_samples(samples)
        batch_size = check_batch_size(batch_size)
        if model is not None and embeddings is not None:
            raise InvalidInputError("Give either model or embeddings, not both")
        if fields is not None:
            fixed = ", as the fields of an index are fixed when it is made"
            fields = check_flag("fields", fields, hint=fixed)
        if num_workers is not None:
            num_workers = check_integer("num_workers", num_workers, low=0)
        if alpha is not None:
            alpha = _check_alpha(alpha)
        if workers is not None:
            workers = check_integer("workers", workers, low=1)
        gpus = _check_gpus(gpus_per_worker, ray)
        if ray is not None:
            ray = check_address(ray)
        skip_failures = check_flag("skip_failures", skip_failures)
        force_square = check_flag("force_square", force_square)
        if fields and not self.config.fields:
            raise InvalidInputError(NO_METADATA_FIELDS)
        prune = check_flag("prune", prune)
        refresh = check_flag("refresh", refresh)
        part = shards.check(shard)
        if part is not None and (refresh or fields):
            raise InvalidInputError(
                f"A shard only adds what is missing, so {'refresh' if refresh else 'fields'}=True "
                "can't be combined with it; call sync() with it, and without shard, at the end"
            )
        if part is not None and ray is not None:
            raise InvalidInputError(
                "Give either ray or shard, not both; the workers of a cluster share all that is "
                "missing"
            )
        options = Options(
            prune=prune and part is None,
            refresh=refresh,
            update_fields=fields is not False and part is None,
            batch_size=batch_size,
            skip_failures=skip_failures,
            progress=progress,
            shard=part,
        )
        source = self._source(
            samples,
            model,
            embeddings,
            options,
            _Workers(workers, ray, gpus) if workers is not None or ray is not None else None,
            num_workers=num_workers,
            force_square=force_square,
            alpha=alpha,
        )
        report = sync(self._target(), samples, source, options)
        self._shared = None
        if self._collection.present():
            self.connection.register_orm()
        self._reload()
        return report

    def _synced_samples(self, samples: Any) -> Any:
        if samples is None:
            return self._samples
        self._check_samples(samples)
        return samples

    def _source(
        self,
        samples: Any,
        model: Any,
        embeddings: Any,
        options: Options,
        workers: _Workers | None = None,
        **how: Any,
    ) -> Source:
        """Returns where the embeddings come from.

        Args:
            samples: the samples that are synced
            model: what the caller passed to :meth:`sync`
            embeddings: likewise
            options: how to sync
            workers: what embeds; None for this process
            **how: options of ``compute_embeddings()``
        """
        patches_field = self.config.patches_field
        if workers is not None:
            if embeddings is not None or (model is None and not self._has_model):
                raise InvalidInputError(
                    f"{workers} embed with a model, and there is none to use; pass model=, or "
                    f"leave out {workers.name}"
                )
            return self._in_workers(samples, model, options, workers, **how)
        if embeddings is None:
            model = self._model_of(model)
            if model is not None:
                how.update(model=model, skip_failures=options.skip_failures, progress=False)
                compute = partial(self.compute_embeddings, **how)
                whole = patches_field is None and self.config.roi_field is None
                return ModelSource(
                    samples,
                    patches_field,
                    compute,
                    options,
                    model if whole else None,
                    how["num_workers"],
                )
            embeddings = self.config.embeddings_field
        if isinstance(embeddings, str):
            return FieldSource(samples, patches_field, embeddings)
        if isinstance(embeddings, Mapping) or hasattr(embeddings, "__len__"):
            return ArraySource(samples, patches_field, embeddings)
        raise InvalidInputError(
            f"Invalid embeddings {shown(embeddings)}; expected a field, an array or a dict"
        )

    @property
    def _has_model(self) -> bool:
        return self._model is not None or self.config.model is not None

    def _in_workers(
        self,
        samples: Any,
        model: Any,
        options: Options,
        workers: _Workers,
        *,
        num_workers: int | None,
        **how: Any,
    ) -> Source:
        """Returns a source that embeds in other processes, where alone a zoo model is loaded."""
        config, dataset = self.config, samples._dataset
        model_kwargs: Mapping[str, Any] = {}
        if model is None and isinstance(config.model, str):
            model, model_kwargs = config.model, config.model_kwargs or {}
        elif model is None:
            model = self.get_model()
        plain = Source.is_of_dataset(samples)
        job = Job(
            dataset=dataset.name,
            stages=None if plain else samples.view()._serialize(),
            model=model if isinstance(model, str) else packed(model),
            model_kwargs=model_kwargs,
            patches_field=config.patches_field,
            roi_field=config.roi_field,
            batch_size=options.batch_size,
            skip_failures=options.skip_failures,
            readers=num_workers,
            how=how,
        )
        pool: Pool
        if workers.ray is None:
            count = workers.count or 1
            job = replace(job, processors=max(1, (os.cpu_count() or 1) // count))
            pool = ProcessPool(job, count)
        else:
            engine = self.connection.engine
            name = f"{'embedded engine' if engine.lite else 'server'}, {engine.title}"
            pool = RayPool(job, workers.ray, workers.count, workers.gpus, name)
        return WorkersSource(samples, config.patches_field, pool)

    def _model_of(self, model: Any) -> Any:
        """Returns the model to embed with, or None if the index was made from a field."""
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

    def _target(self) -> Target:
        fields = self._metadata_fields()
        return Target(
            name=f"Index '{self.key or self.config.collection_name}'",
            collection=self._collection,
            create=lambda vectors: self._create_for(vectors, fields),
            metric=self.config.metric,
            patches_field=self.config.patches_field,
            fields=fields,
            owned=self._owned,
            others=self._other_users,
            dataset=self._samples._root_dataset,
        )

    def _owned(self) -> bool:
        """Returns whether the collection is recorded as this dataset's, for the same patches."""
        recorded, own = self._collection.layout.owner, self._owner
        return all(recorded.get(name) == own[name] for name in ("dataset_id", "patches_field"))
