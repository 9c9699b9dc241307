"""What can break in the middle of a sync."""
