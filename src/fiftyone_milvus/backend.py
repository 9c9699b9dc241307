"""The classes that FiftyOne creates for ``backend="milvus"`` and for a stored brain run.

FiftyOne finds ``MilvusSimilarity`` by dropping ``Config`` from ``MilvusSimilarityConfig``, in the
same module.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import fiftyone.constants as foc
from fiftyone.brain.similarity import Similarity, SimilarityConfig

from fiftyone_milvus import mapping, metrics
from fiftyone_milvus._version import __version__
from fiftyone_milvus.connection import CREDENTIALS, Connection, Request, Settings, connect, resolve
from fiftyone_milvus.dataset.availability import methods_need_database
from fiftyone_milvus.dataset.patches import check_patches_field
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import AGGREGATIONS, MilvusSimilarityIndex
from fiftyone_milvus.numbers import as_number, check_text
from fiftyone_milvus.schema.columns import check_paths, resolve_columns
from fiftyone_milvus.schema.index_types import check_index, check_metric
from fiftyone_milvus.schema.scale import Scale, check_partition_key, check_scale

logger = logging.getLogger(__name__)

CONSISTENCY_LEVELS = ("Strong", "Session", "Bounded", "Eventually")
DEPLOYMENTS = ("embedded", "server")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_MAX_SLUG = 180
_BASE_PARAMETERS = set(inspect.signature(SimilarityConfig.__init__).parameters) - {"self", "kwargs"}


class _Default(str):
    """The value of a parameter that was not given."""

    __slots__ = ()


_DEFAULT_METRIC = _Default("dotproduct")


class MilvusSimilarityConfig(SimilarityConfig):
    """The configuration of a Milvus similarity index.

    The constructor checks it, and connects to nothing.

    Example::

        import fiftyone.brain as fob

        fob.compute_similarity(
            dataset,
            backend="milvus",
            brain_key="similar",
            embeddings=embeddings,
            metric="cosine",
        )

    Args:
        collection_name (None): the Milvus collection to use or create. By default, a new one,
            named after the dataset and the brain key
        metric ("dotproduct"): the distance metric: ``"cosine"`` (1 - cosine similarity),
            ``"dotproduct"`` (1 - inner product) or ``"euclidean"`` (L2)
        consistency_level ("Session"): what a read sees: ``"Strong"`` (every write), ``"Session"``
            (the writes of this process), ``"Bounded"`` (all but those of the last seconds) or
            ``"Eventually"``. See https://milvus.io/docs/consistency.md
        index_type (None): the vector index of a new collection, such as ``"HNSW"``,
            ``"IVF_FLAT"`` or ``"FLAT"``. By default, HNSW on a server, and AUTOINDEX on the
            embedded engine
        index_params (None): a dict of build parameters, such as
            ``{"M": 16, "efConstruction": 200}``
        search_params (None): a dict of search parameters, such as ``{"ef": 128}``. If it has a
            ``"k"``, they are for up to ``k`` results and grow for more, like those that
            :meth:`tune() <fiftyone_milvus.index.MilvusSimilarityIndex.tune>` finds
        num_shards (None): into how many channels Milvus splits the writes of a new collection, 1 to
            16. By default, 1
        replicas (None): on how many query nodes a collection is loaded. Each copy answers searches
            and needs memory for all vectors. By default, 1. Servers only
        mmap (None): whether Milvus maps the vectors and the index of a new collection from disk,
            which needs less memory and is slower. By default, as the server is set up. Servers only
        partition_key (None): one of ``fields``, of strings or integers. Milvus stores rows with
            different values in different partitions, and a search in a view of some values reads
            only their partitions. Useful for a field that most views filter by
        num_partitions (None): into how many partitions the values of ``partition_key`` are hashed,
            1 to 1024; best several times the number of values. By default, Milvus decides
        timeout (None): seconds that one call to Milvus may take. By default, 2 to 60
            minutes, depending on its kind
        id_field (None): the VARCHAR primary key of an existing collection. By default, found
        vector_field (None): the float vector field of an existing collection. By default, found
        fields (None): the metadata fields: FiftyOne fields to store with each vector, such as
            ``["ground_truth.label", "tags", "metadata.width", "split"]``. They can be strings,
            numbers, booleans, dates and lists of strings; for patches, attributes of their labels
            and fields of their samples. Milvus filters by them when it searches in a view, as long
            as they are up to date; see
            :meth:`sync_fields() <fiftyone_milvus.index.MilvusSimilarityIndex.sync_fields>`
        deployment (None): which Milvus to use if no ``uri`` is given: ``"embedded"`` or
            ``"server"``. By default, a Milvus that answers on ``localhost:19530``, else the
            embedded engine. The choice is stored with the run
        uri (None): the address of a Milvus server or Zilliz Cloud, such as
            ``"http://localhost:19530"``; or a path that ends in ``.db`` for the embedded engine
        user (None): the user
        password (None): the password
        secure (None): whether to use TLS
        token (None): an API key or ``"user:password"``
        db_name (None): the Milvus database
        client_key_path (None): the client's key for mutual TLS
        client_pem_path (None): the client's certificate for mutual TLS
        ca_pem_path (None): the certificate authority to trust
        server_pem_path (None): the server's certificate to trust
        server_name (None): the name in the server's certificate
        **kwargs: the credentials above, from ``uri`` on, and the parameters of
            :class:`fiftyone.brain.similarity.SimilarityConfig`

    Raises:
        InvalidInputError: if a value can't be used
    """

    def __init__(
        self,
        collection_name: str | None = None,
        metric: str = _DEFAULT_METRIC,
        consistency_level: str = "Session",
        index_type: str | None = None,
        index_params: Mapping[str, Any] | None = None,
        search_params: Mapping[str, Any] | None = None,
        num_shards: int | None = None,
        replicas: int | None = None,
        mmap: bool | None = None,
        partition_key: str | None = None,
        num_partitions: int | None = None,
        timeout: float | None = None,
        id_field: str | None = None,
        vector_field: str | None = None,
        fields: Sequence[str] | None = None,
        deployment: str | None = None,
        **kwargs: Any,
    ) -> None:
        # FiftyOne stores every public attribute in its database, so these become private ones.
        # First, as what is raised below may be printed with its local variables
        for credential in CREDENTIALS:
            setattr(self, credential, kwargs.pop(credential, None))
        # FiftyOne stores the class with a run, and passes it only where it loads one
        stored = isinstance(kwargs.pop("cls", None), str)
        metrics.metric_type(metric)
        _choice("consistency_level", consistency_level, CONSISTENCY_LEVELS)
        if deployment is not None:
            _choice("deployment", deployment, DEPLOYMENTS)
        collection_name = check_text("collection_name", collection_name)
        if collection_name is not None and not _NAME.match(collection_name):
            raise InvalidInputError(
                f"Invalid collection_name {collection_name!r}; expected at most 255 letters, "
                "digits and underscores, not starting with a digit"
            )
        seconds = as_number(timeout)
        if timeout is not None and not (seconds is not None and 0 < seconds < math.inf):
            raise InvalidInputError(f"Invalid timeout {timeout!r}; expected seconds above 0")
        unknown = sorted(set(kwargs) - _BASE_PARAMETERS)
        if unknown and stored:
            # Of a later version. The base class keeps them, so they are stored again as they are
            _warn_of_unknown(tuple(unknown))
        elif unknown:
            # The base class would store it, even if it is a misspelled password
            close = difflib.get_close_matches(unknown[0], parameter_names(), n=1)
            raise InvalidInputError(
                f"Unknown parameter '{unknown[0]}' of backend 'milvus'; "
                + (f"did you mean '{close[0]}'? The " if close else "the ")
                + f"parameters are {', '.join(parameter_names())}"
            )
        for text in ("embeddings_field", "patches_field", "roi_field"):
            check_text(text, kwargs.get(text), what="the name of a field")

        super().__init__(**kwargs)
        self.collection_name = collection_name
        self.metric = str(metric)
        self._metric_named = metric is not _DEFAULT_METRIC
        self.consistency_level = consistency_level
        self.index_type, self.index_params, self.search_params = check_index(
            index_type, index_params, search_params
        )
        check_metric(self.index_type, metric)
        self.timeout = seconds
        self.id_field = check_text("id_field", id_field)
        self.vector_field = check_text("vector_field", vector_field)
        self.fields = check_paths(fields)
        scale = Scale(num_shards, replicas, mmap, partition_key, num_partitions)
        for name, value in vars(check_scale(scale, self.fields)).items():
            setattr(self, name, value)
        self.deployment = deployment

    @classmethod
    def _virtual_attributes(cls) -> list[str]:
        """Returns what FiftyOne drops of a stored config; not the class, which says it is one."""
        return [name for name in super()._virtual_attributes() if name != "cls"]

    @property
    def method(self) -> str:
        """The name of the backend."""
        return "milvus"

    @property
    def max_k(self) -> None:
        """The largest ``k``: there is no limit."""
        return

    @property
    def supports_least_similarity(self) -> bool:
        """Whether searches can return the least similar samples."""
        return True

    @property
    def supported_aggregations(self) -> tuple[str, ...]:
        """How several queries can be combined."""
        return tuple(AGGREGATIONS)

    @property
    def scale(self) -> Scale:
        """How a new collection is spread."""
        return Scale(**{field.name: getattr(self, field.name) for field in fields_of(Scale)})

    def load_credentials(self, **credentials: Any) -> None:
        """Sets the credentials, from FiftyOne's brain config where an argument is missing.

        Args:
            **credentials: any of :data:`fiftyone_milvus.connection.CREDENTIALS`

        Raises:
            InvalidInputError: if there is no such credential
        """
        unknown = sorted(set(credentials) - set(CREDENTIALS))
        if unknown:
            raise InvalidInputError(
                f"Unknown parameter '{unknown[0]}'; the parameters are {', '.join(CREDENTIALS)}"
            )
        self._load_parameters(**{name: credentials.get(name) for name in CREDENTIALS})

    def connect(self) -> Connection:
        """Returns the connection that this config describes, which opens when it is first used.

        Sets :attr:`deployment` to the one that was chosen.
        """
        settings = Settings.parse({name: getattr(self, name) for name in CREDENTIALS})
        connection = connect(resolve(settings, self.deployment))
        self.deployment = connection.target.deployment
        return connection


def _credential(name: str) -> property:
    def get(self: MilvusSimilarityConfig) -> Any:
        return getattr(self, f"_{name}")

    def put(self: MilvusSimilarityConfig, value: Any) -> None:
        setattr(self, f"_{name}", value)

    return property(get, put, doc=f"The credential ``{name}``, which is never stored.")


for _name in CREDENTIALS:
    setattr(MilvusSimilarityConfig, _name, _credential(_name))


@methods_need_database()
class MilvusSimilarity(Similarity):
    """The factory of :class:`fiftyone_milvus.index.MilvusSimilarityIndex`.

    Args:
        config: a :class:`MilvusSimilarityConfig`
    """

    def ensure_requirements(self) -> None:
        """Does nothing: this package installs its requirements."""

    def ensure_usage_requirements(self) -> None:
        """Does nothing: this package installs its requirements."""

    def initialize(self, samples: Any, brain_key: str | None) -> MilvusSimilarityIndex:
        """Returns the index of a new run, whose collection may not exist yet.

        Args:
            samples: a :class:`fiftyone.core.collections.SampleCollection`
            brain_key: the brain key, or None for an index that is not stored

        Raises:
            ConnectionFailedError: if Milvus can't be reached
            CollectionMismatchError: if ``collection_name`` exists and can't be used
            InvalidInputError: if there is no ``patches_field``, one of ``fields`` can't be stored,
                or the engine can't make such an index
        """
        config = self.config
        check_patches_field(samples, config.patches_field)
        if config.fields:
            columns = resolve_columns(samples._root_dataset, config.patches_field, config.fields)
            check_partition_key(config.scale, columns)
        connection = config.connect()
        names = connection.run(Request("list_collections"))
        named = config.collection_name is not None
        if not named:
            config.collection_name = unique_name(samples, brain_key, names)
        index = MilvusSimilarityIndex(samples, config, brain_key, backend=self)
        index.expect_field()
        # A name may be an alias, which Milvus does not list
        if config.collection_name in names or (named and index._collection.exists()):
            index.adopt()
        else:
            # Now, before a model runs
            index.check_engine()
        return index

    def register_run(
        self, samples: Any, key: str | None, overwrite: bool = True, cleanup: bool = True
    ) -> None:
        """Checks that a run can be stored under a key, but does not store it yet.

        FiftyOne registers a run before it computes anything, so a failed run would block its brain
        key. :meth:`save_run_results` registers the run instead.
        """
        if key is None:
            return
        if key in self.list_runs(samples):
            super().register_run(samples, key, overwrite=overwrite, cleanup=cleanup)
        else:
            self.validate_run(samples, key, overwrite=overwrite)

    @classmethod
    def save_run_results(
        cls,
        samples: Any,
        key: str | None,
        run_results: Any,
        overwrite: bool = True,
        cache: bool = True,
    ) -> None:
        """Stores the results of a run, and registers the run if it is new."""
        run_results.expect_field(False)
        if key is not None and key not in cls.list_runs(samples):
            now = datetime.now(timezone.utc).replace(tzinfo=None)
            info = cls.run_info_cls()(
                key, version=foc.VERSION, timestamp=now, config=run_results.config
            )
            cls.save_run_info(samples, info, overwrite=False)
        super().save_run_results(samples, key, run_results, overwrite=overwrite, cache=cache)

    def rename(self, samples: Any, key: str, new_key: str) -> None:
        """Records the new brain key with the collection."""
        if self.has_cached_run_results(samples, key):
            # It may have credentials that were passed as keyword arguments
            index = self.load_run_results(samples, key)
        else:
            self.config.load_credentials()
            index = MilvusSimilarityIndex(samples, self.config, key, backend=self)
        index.rename_owner(new_key)
        mapping.rename(samples._root_dataset, key, new_key)

    def cleanup(self, samples: Any, key: str) -> None:
        """Deletes the collection of a run. Its maps are runs of their own, and stay."""
        super().cleanup(samples, key)
        if key is not None and (maps := mapping.maps_of(samples._root_dataset, key)):
            logger.info(
                "The maps of index '%s' stay: %s; dataset.delete_brain_run() deletes them",
                key,
                ", ".join(map(repr, maps)),
            )


def parameter_names() -> list[str]:
    """Returns the names of the parameters of the backend, with the credentials."""
    names = inspect.signature(MilvusSimilarityConfig.__init__).parameters
    return [name for name in (*names, *CREDENTIALS) if name not in ("self", "kwargs")]


@functools.cache
def _warn_of_unknown(names: tuple[str, ...]) -> None:
    """Warns of parameters of a stored run, once in a process: the App loads runs often."""
    logger.warning(
        "A stored index has parameters that fiftyone-milvus %s does not know, and ignores: %s; "
        "upgrade it to use them",
        __version__,
        ", ".join(names),
    )


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"Unsupported {name} {value!r}; expected one of {choices}")


def unique_name(samples: Any, brain_key: str | None, taken: Sequence[str]) -> str:
    """Returns a name for a new collection, of letters, digits and underscores.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection`
        brain_key: the brain key, or None
        taken: the existing names; a name that is among them gets a random suffix
    """
    dataset = samples._root_dataset
    slug = re.sub(r"[^A-Za-z0-9]+", "_", dataset.name).strip("_").lower()[:_MAX_SLUG]
    name = f"fiftyone_{slug or dataset._doc.id}"
    if brain_key is not None:
        name = f"{name}_{re.sub('[^A-Za-z0-9_]', '_', brain_key)}"[:240]
        if name not in taken:
            return name
    return f"{name}_{uuid4().hex[:8]}"
