"""Sets up FiftyOne: the ``milvus`` backend in its brain config, and its MongoDB."""
