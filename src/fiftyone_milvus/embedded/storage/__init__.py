"""Milvus Lite's files: written faster, and without loss where the disk is full or power fails."""
