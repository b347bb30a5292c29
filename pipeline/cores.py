"""Processor cores that this process may use: in a batch job fewer than the machine has."""

import os

CORES = len(os.sched_getaffinity(0))
