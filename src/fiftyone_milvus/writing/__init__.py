"""Embeddings to rows of a collection: checked, batched, written with retries."""
