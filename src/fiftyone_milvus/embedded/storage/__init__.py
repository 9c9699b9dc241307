"""Milvus Lite's files: written faster, and without loss when the disk is full."""
