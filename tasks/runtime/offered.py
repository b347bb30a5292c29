"""Tasks that a central scheduler offers, of which a worker takes only steps of its own mirror.

Any program that reaches the scheduler can add a task to it, of any module and with any parameters.
"""

import logging
from typing import Any

from luigi.task_register import Register

from tasks.runtime.task import MirrorTask

PACKAGE = "tasks"

log = logging.getLogger(__name__)


def offered_step(work: dict[str, Any], mirror: str) -> MirrorTask | None:
    """Return the offered task; None unless it is a step of a fileset of the mirror with this short id.

    Its class must have been loaded before: nothing is imported.
    """
    try:
        kind = Register.get_task_cls(work["task_family"])
        if not (_is_step(kind) and kind.__module__ == work["task_module"]):
            return None
        task: MirrorTask = kind.from_str_params(work["task_params"])
        is_ours = (task.task_id, task.mirror) == (work["task_id"], mirror)
        return task if is_ours and task.is_listed() else None
    # Values of any kind may fail in any way.
    except Exception as error:
        log.debug("offered task: %r", error)
        return None


def _is_step(kind: type) -> bool:
    return issubclass(kind, MirrorTask) and kind.for_peers and kind.__module__.split(".")[0] == PACKAGE
