"""Tasks that running tasks submit to the worker, a limited number of them at a time."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator

import luigi
from luigi.task_status import DONE, FAILED


class Submission:
    """The tasks that one running task has submitted together."""

    def __init__(self, tasks: Iterator[luigi.Task]) -> None:
        self._tasks = tasks
        self._next: luigi.Task | None = None
        self.in_flight = 0
        self.closed = threading.Event()

    def peek(self) -> luigi.Task | None:
        """Return the first task that is not taken; None when all are."""
        if self._next is None:
            self._next = next(self._tasks, None)
        return self._next

    def take(self) -> None:
        """Take the next task."""
        self._next = None

    def wait(self) -> None:
        """Wait until every task is done or has failed, or until the window is aborted."""
        self.closed.wait()


class _Chain:
    """A task in flight and all that it requires: ``todo`` are the steps that are not done, by task id.

    Several ``submissions`` may have the task.
    """

    def __init__(self, last: luigi.Task, submission: Submission) -> None:
        self.last = last
        self.submissions = [submission]
        self.started = False
        self.todo: dict[str, luigi.Task] = {}
        self.requires: dict[str, set[str]] = {}
        found = [last]
        while found:
            task = found.pop()
            if task.task_id not in self.todo:
                required = task.deps()
                self.todo[task.task_id] = task
                self.requires[task.task_id] = {step.task_id for step in required}
                found.extend(required)

    def ready(self, running: Collection[str]) -> Iterator[luigi.Task]:
        """Yield the steps that do not run and whose requirements are done."""
        for task_id, task in self.todo.items():
            if task_id not in running and self.requires[task_id].isdisjoint(self.todo):
                yield task

    def complete(self, task_id: str) -> None:
        """Note that a step is done, and with it all that it requires."""
        done = [task_id]
        while done:
            step = done.pop()
            if self.todo.pop(step, None) is not None:
                done.extend(self.requires[step])


class TaskWindow:
    """At most ``size`` tasks in flight: given to the scheduler, and neither done nor failed.

    A task with any number of steps is in flight until its last step is done or one of its steps has failed.
    ``ended`` is called with each task that leaves the window. Any thread may call ``open``; all else is for
    the thread of the worker.
    """

    def __init__(self, size: int, ended: Callable[[luigi.Task], None] = lambda _: None) -> None:
        self._size = size
        self._ended = ended
        self._open: deque[Submission] = deque()
        self._in_flight: dict[str, _Chain] = {}
        # The tasks in flight that a step belongs to: several may require the same step.
        self._chains_of: dict[str, list[_Chain]] = {}
        self._aborted = False

    def submit(self, tasks: Iterator[luigi.Task]) -> Submission:
        """Have the tasks submitted when there is room for them."""
        submission = Submission(tasks)
        self._open.append(submission)
        if self._aborted:
            submission.closed.set()
        return submission

    def abort(self) -> None:
        """Release all threads that wait, although tasks may be left."""
        self._aborted = True
        for submission in list(self._open):
            submission.closed.set()

    def take_next(self) -> luigi.Task | None:
        """Take the next task into the window; None without room or task.

        It is that of the highest priority among the next ones of all submissions, of equal ones in turn.
        """
        self._close()
        waiting = [(submission, task) for submission in list(self._open) if (task := submission.peek())]
        if not waiting or len(self._in_flight) >= self._size:
            return None
        submission, task = max(waiting, key=lambda each: each[1].priority)
        self._open.remove(submission)
        self._open.append(submission)
        submission.take()
        self._add(_Chain(task, submission))
        return task

    def _close(self) -> None:
        """Close the submissions of which all tasks are done or have failed."""
        for submission in list(self._open):
            if not submission.in_flight and submission.peek() is None:
                self._open.remove(submission)
                submission.closed.set()

    def start(self, task_id: str) -> None:
        """Note that this process does a step: the following ones are done even after a request to stop."""
        for chain in self._chains_of.get(task_id, ()):
            chain.started = True

    def complete(self, task_id: str, status: str) -> list[str]:
        """Note the result of a step; return the ids of the steps that no task in flight needs any more."""
        released: list[str] = []
        for chain in list(self._chains_of.get(task_id, ())):
            if status == DONE:
                chain.complete(task_id)
            if status == FAILED or not chain.todo:
                released += self._remove(chain)
        return released

    def resumable(self, running: Collection[str]) -> list[luigi.Task]:
        """Return the steps that could start, of the tasks of which this process did a step."""
        started = [chain for chain in self._in_flight.values() if chain.started]
        return [step for chain in started for step in chain.ready(running)]

    def idle(self, running: Collection[str]) -> list[luigi.Task]:
        """Return the tasks in flight of which no step is ``running``."""
        chains = self._in_flight.values()
        return [chain.last for chain in chains if chain.requires.keys().isdisjoint(running)]

    def _add(self, chain: _Chain) -> None:
        chain.submissions[0].in_flight += 1
        if (same := self._in_flight.get(chain.last.task_id)) is not None:
            same.submissions += chain.submissions
            same.last = chain.last
            return
        self._in_flight[chain.last.task_id] = chain
        for task_id in chain.requires:
            self._chains_of.setdefault(task_id, []).append(chain)

    def _remove(self, chain: _Chain) -> list[str]:
        del self._in_flight[chain.last.task_id]
        released = []
        for task_id in chain.requires:
            chains = self._chains_of[task_id]
            chains.remove(chain)
            if not chains:
                del self._chains_of[task_id]
                released.append(task_id)
        for submission in chain.submissions:
            submission.in_flight -= 1
        self._ended(chain.last)
        return released
