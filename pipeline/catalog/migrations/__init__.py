"""Migrations of our own tables, one module per revision in ``versions``."""
