"""The state of a mirror on disk."""
