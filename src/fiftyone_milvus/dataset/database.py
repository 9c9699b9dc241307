"""Which FiftyOne database this is."""

from __future__ import annotations

import fiftyone.core.odm as foo


def database_id() -> str | None:
    """Returns what tells this FiftyOne database from others, or None where nothing does.

    The ID of the one document of FiftyOne's ``config``, which is made with the database and updated
    in place. A copy of a database has it too.
    """
    document = foo.get_db_conn().config.find_one({}, {"_id": True})
    return None if document is None else str(document["_id"])
