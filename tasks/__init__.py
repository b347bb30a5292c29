"""The Luigi tasks of the mirror."""
