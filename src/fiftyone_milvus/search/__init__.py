"""Queries to neighbors: which plan, exact or by the index, in any view."""
