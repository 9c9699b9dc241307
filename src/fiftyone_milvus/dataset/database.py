"""The identity of the FiftyOne database."""

from __future__ import annotations

import fiftyone.core.odm as foo


def database_id() -> str | None:
    """Returns an ID of this FiftyOne database, or None if it has none.

    It is the ID of the only document in FiftyOne's ``config``, which is made with the database and
    updated in place. A copy of a database has the same.
    """
    document = foo.get_db_conn().config.find_one({}, {"_id": True})
    return None if document is None else str(document["_id"])
