"""Attaches a model to an index."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import fiftyone.core.models as fom
import fiftyone.zoo as foz
import numpy as np

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import DimensionMismatchError, InvalidInputError, shown
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array

logger = logging.getLogger(__name__)

_LIKE = 0.9
"""A model whose embedding of a sample has a smaller cosine with the stored one is another."""


class IndexModel(IndexBase):
    """Attaches a model."""

    def use_model(self, model: Any, model_kwargs: Mapping[str, Any] | None = None) -> None:
        """Attaches the model that made the embeddings, for queries by text and image.

        For an index that was made from embeddings, or on an existing collection. The name of a zoo
        model is stored with the index, so that the App can search by text too. Another model than
        that of the embeddings finds nothing that makes sense: its dimension is checked, and its
        embedding of a sample is compared with that in the index.

        Example::

            index = fob.compute_similarity(
                dataset, embeddings="clip", metric="cosine", brain_key="similar", backend="milvus"
            )
            index.use_model("clip-vit-base32-torch")
            index.search("a red car")

        Args:
            model: the name of a zoo model; or a :class:`fiftyone.core.models.Model`, which is used
                in this process only
            model_kwargs (None): a dict of parameters for the zoo model

        Raises:
            InvalidInputError: if it is no model that embeds images
            DimensionMismatchError: if its embeddings have another dimension than the index
        """
        name = model if isinstance(model, str) else None
        if name is not None:
            model = foz.load_zoo_model(name, **(model_kwargs or {}))
        elif model_kwargs is not None:
            raise InvalidInputError("model_kwargs are for the name of a zoo model; leave them out")
        if not isinstance(model, fom.Model) or not model.has_embeddings:
            raise InvalidInputError(
                f"Invalid model {shown(name or model)}; expected a zoo model, or a Model, that "
                "computes embeddings"
            )
        self._check_model(model, name or type(model).__name__)
        self._model, self._supports_prompts = model, bool(model.can_embed_prompts)
        if name is None:
            logger.info(
                "The model is used in this process only; pass a zoo model's name to keep it"
            )
            return
        self.config.model, self.config.model_kwargs = name, dict(model_kwargs or {}) or None
        self.config.supports_prompts = self._supports_prompts
        if self.key is not None:
            self.save_config()

    def _check_model(self, model: Any, name: str) -> None:
        if not self._collection.present():
            return
        stored, image = self._an_image()
        try:
            with model:
                found = np.asarray(model.embed(image)).reshape(-1)
        except Exception as error:
            logger.warning("Could not check the dimension of model '%s': %s", name, error)
            return
        expected = self._collection.layout.dimension
        if len(found) != expected:
            raise DimensionMismatchError(
                f"The embeddings of model '{name}' have {len(found)} dimensions, but the index has "
                f"{expected}; attach the model that its embeddings are of"
            )
        if stored is not None:
            cosine = found @ stored / (np.linalg.norm(found) * np.linalg.norm(stored))
            if not cosine >= _LIKE:
                logger.warning(
                    "The embedding of a sample by model '%s' is not the one in the index (their "
                    "cosine similarity is %.2f): if its embeddings are of another model, searches "
                    "by text or image find nothing that makes sense",
                    name,
                    cosine,
                )

    def _an_image(self) -> tuple[Array | None, Array]:
        """Returns the embedding and the image of a sample; any image if there is none to read."""
        gray = np.full((64, 64, 3), 128, np.uint8)
        sample = self._samples.first() if len(self._samples) else None
        if self._patches or sample is None:
            return None, gray
        rows = self._collection.fetch([sample.id])
        try:
            return (rows.vectors[0] if rows.ids else None), images.read(sample.filepath)
        except InvalidInputError:
            return None, gray
