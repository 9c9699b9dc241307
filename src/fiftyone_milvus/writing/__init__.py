"""Writes embeddings to a collection: checks them, batches them, and retries."""
