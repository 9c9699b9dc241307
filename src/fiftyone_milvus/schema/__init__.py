"""The schema of a collection: fields, index types, scale, and what each engine supports."""
