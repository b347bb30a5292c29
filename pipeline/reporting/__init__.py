"""Reports on a mirror for people and for scripts: the status files."""

from pipeline.reporting.status_files import product_rows, product_status, write_status

__all__ = ["product_rows", "product_status", "write_status"]
