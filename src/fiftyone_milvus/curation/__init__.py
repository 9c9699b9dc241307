"""What neighbors are for: groups of duplicates, leaks, labels from neighbors."""
