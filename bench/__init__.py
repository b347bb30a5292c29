"""The benchmark: the mirror side by side with what people would use instead (docs/performance.md)."""
