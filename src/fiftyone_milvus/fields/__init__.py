"""Metadata fields: their values, how they stay up to date, and views as conditions on them."""
