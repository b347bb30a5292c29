"""Workflow: all steps of a fileset, in the order in which they are done."""

from pipeline.catalog.step import CATALOG
from pipeline.mirror.state.steps import Steps
from pipeline.mirror.steps.download import DOWNLOAD
from pipeline.mirror.steps.extract import EXTRACT

STEPS = Steps((DOWNLOAD, EXTRACT, CATALOG))
