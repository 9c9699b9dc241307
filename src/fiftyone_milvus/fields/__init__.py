"""FiftyOne's fields beside the vectors: what is stored, how it stays up to date, what it answers.

``columns``
    which fields, and how Milvus holds them
``values``
    their values, read from FiftyOne's database
``store``
    :class:`~fiftyone_milvus.fields.store.SyncedFields`: writing them, bringing them up to date
``staleness``
    whether they are up to date
``translate``
    a FiftyOne view as a Milvus expression over them
"""
