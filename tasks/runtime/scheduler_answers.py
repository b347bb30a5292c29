"""Checks of the answers of a central scheduler, which any program may have given."""

from typing import Any, NoReturn

from luigi.rpc import RPCError


def checked_works(works: Any, most: int) -> list[dict[str, Any]]:
    """Return at most ``most`` answers to ``get_work``: each with a task id, or None. Raises RPCError."""
    if not isinstance(works, list) or len(works) > most:
        _refuse(f"at most {most} offers of work", works)
    for work in works:
        if not isinstance(work, dict) or not isinstance(work.get("task_id", 0), str | None):
            _refuse("the id of a task, or None", work)
    return works


def checked_workers(workers: Any) -> list[dict[str, Any]]:
    """Return the answer to ``worker_list``: each worker with its name. Raises RPCError."""
    if not isinstance(workers, list):
        _refuse("a list of workers", workers)
    for worker in workers:
        if not isinstance(worker, dict) or not isinstance(worker.get("name"), str):
            _refuse("the name of a worker", worker)
    return workers


def running_tasks(worker: dict[str, Any], mirror: str) -> list[str]:
    """Return the ids of the tasks that the worker runs for the mirror with this short id. Raises RPCError."""
    running = worker.get("running")
    if not isinstance(running, dict):
        _refuse("the running tasks of a worker", running)
    return [task_id for task_id, task in running.items() if _parameter(task, "mirror") == mirror]


def checked_messages(answer: Any) -> list[dict[str, Any]]:
    """Return those messages to a worker, in the answer to a ping, that set the number of its processes."""
    messages = answer.get("rpc_messages") if isinstance(answer, dict) else None
    return [message for message in messages if _sets_processes(message)] if isinstance(messages, list) else []


def _sets_processes(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("name") != "set_worker_processes":
        return False
    arguments = message.get("kwargs")
    return isinstance(arguments, dict) and arguments.keys() == {"n"} and type(arguments["n"]) is int


def _parameter(task: Any, name: str) -> Any:
    parameters = task.get("params") if isinstance(task, dict) else None
    return parameters.get(name) if isinstance(parameters, dict) else None


def _refuse(expected: str, got: Any) -> NoReturn:
    raise RPCError(f"expected {expected}, got {str(got)[:100]!r}")
