"""Benchmark of the mirror against general download tools (docs/performance.md)."""
