"""Where other processes look for an index, as credentials are never stored."""

from __future__ import annotations

import logging

from fiftyone_milvus import embedded
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.connection import CREDENTIALS, Settings, resolve
from fiftyone_milvus.connection.resolution import LOCAL_SERVER
from fiftyone_milvus.index import MilvusSimilarityIndex

logger = logging.getLogger(__name__)


def tell(index: MilvusSimilarityIndex) -> bool:
    """Logs where an index is, and what other processes need to find it there.

    Returns:
        whether they need nothing
    """
    target = index.connection.target
    config = MilvusSimilarityConfig()
    config.load_credentials()
    settings = Settings.parse({name: getattr(config, name) for name in CREDENTIALS})
    if settings.uri is not None:
        address = resolve(settings, None).address
    elif target.deployment == "embedded":
        address = str(embedded.default_path())
    else:
        address = LOCAL_SERVER
    database = target.settings.db_name or "default"
    if (address, settings.db_name or "default") == (target.address, database):
        logger.info("Index '%s' is in %s", index.key, index._collection.where)
        return True
    logger.warning(
        "Index '%s' is in %s, but other processes, as the App's, look for it at %s: set "
        "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI=%s for them%s, or load it with uri=",
        index.key,
        index._collection.where,
        address,
        target.address,
        f" and ..._DB_NAME={database}" if database != (settings.db_name or "default") else "",
    )
    return False
