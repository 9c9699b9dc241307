"""Milvus Lite's files, written faster, and so that nothing is lost when the disk is full."""
