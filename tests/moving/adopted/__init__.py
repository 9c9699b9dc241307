"""The contract's tests once more, on runs that the built-in backend made, and that were adopted."""
