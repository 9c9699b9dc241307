"""What a collection is made of: fields, index types, how it is spread, and what an engine has."""
