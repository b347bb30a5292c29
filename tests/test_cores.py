"""The cores of a process that may use some of the machine's."""

import os
import subprocess
import sys


def test_only_the_cores_that_the_process_may_use_count():
    core = min(os.sched_getaffinity(0))
    count = f"import os; os.sched_setaffinity(0, [{core}]); from pipeline.cores import CORES; print(CORES)"
    assert subprocess.check_output([sys.executable, "-c", count], text=True) == "1\n"
