"""The window of submitted tasks: chains of steps of any length, and how they end."""

import threading

import luigi
import pytest
from luigi.scheduler import DONE, FAILED, PENDING

from tasks.runtime.window import TaskWindow


class Setup(luigi.Task):
    """A task that all filesets require."""


class Download(luigi.Task):
    fileset = luigi.Parameter()
    shared = luigi.BoolParameter(default=False)

    def requires(self):
        return [Setup()] if self.shared else []


class Extract(Download):
    def requires(self):
        return Download(**self.param_kwargs)


class Catalog(Download):
    optional = True

    def requires(self):
        return Extract(**self.param_kwargs)


class Publish(Download):
    optional = True

    def requires(self):
        return Catalog(**self.param_kwargs)


STEPS = [Download, Extract, Catalog, Publish]


def chain(fileset: str, last: type[Download] = Publish, **more) -> dict[type, luigi.Task]:
    """The steps of a fileset, as they are required."""
    return {kind: kind(fileset=fileset, **more) for kind in STEPS[: STEPS.index(last) + 1]}


def opened(*tasks: luigi.Task, size: int = 10):
    window = TaskWindow(size)
    return window, window.submit(iter(tasks))


def submit_all(window: TaskWindow) -> list[luigi.Task]:
    """All tasks that the window takes; of each this process has done something."""
    tasks = list(iter(window.take_next, None))
    for task in tasks:
        window.start(task.task_id)
    return tasks


def ready(window: TaskWindow, *running: luigi.Task) -> list[luigi.Task]:
    return window.resumable({task.task_id for task in running})


def is_over(window: TaskWindow, submission) -> bool:
    return submit_all(window) == [] and submission.closed.is_set() and window.idle([]) == []


@pytest.mark.parametrize("last", STEPS)
def test_each_step_is_ready_when_the_one_before_is_done(last):
    steps = chain("f", last)
    window, submission = opened(steps[last])
    assert submit_all(window) == [steps[last]]
    for task in steps.values():
        assert ready(window) == [task]
        assert ready(window, task) == []
        assert window.idle([]) == [steps[last]]
        assert window.idle([task.task_id]) == []
        assert not submission.closed.is_set()
        released = window.complete(task.task_id, DONE)
        assert set(released) == ({each.task_id for each in steps.values()} if task is steps[last] else set())
    assert is_over(window, submission)


@pytest.mark.parametrize("last", STEPS)
def test_the_failure_of_any_step_completes_the_whole_chain(last):
    for failing in chain("f", last):
        steps = chain("f", last)
        window, submission = opened(steps[last])
        submit_all(window)
        for kind, task in steps.items():
            if kind is failing:
                break
            assert window.complete(task.task_id, DONE) == []
        released = window.complete(steps[failing].task_id, FAILED)
        assert set(released) == {task.task_id for task in steps.values()}
        assert is_over(window, submission)


def test_a_step_that_is_done_has_done_all_before_it():
    """The scheduler is not told of what a complete task requires, so no result comes for that."""
    steps = chain("f", Catalog)
    window, submission = opened(steps[Catalog])
    submit_all(window)
    assert window.complete(steps[Extract].task_id, DONE) == []
    assert ready(window) == [steps[Catalog]]
    window.complete(steps[Catalog].task_id, DONE)
    assert is_over(window, submission)


def test_other_results_change_nothing():
    steps = chain("f", Extract)
    window, submission = opened(steps[Extract])
    submit_all(window)
    assert window.complete(steps[Download].task_id, PENDING) == []
    assert window.complete(chain("other")[Download].task_id, FAILED) == []
    assert ready(window) == [steps[Download]]
    window.complete(steps[Download].task_id, FAILED)
    # As when a second worker did the same.
    assert window.complete(steps[Download].task_id, FAILED) == []
    assert is_over(window, submission)


def test_no_more_are_in_flight_than_there_is_room_for():
    tasks = [Download(fileset=str(number)) for number in range(5)]
    ended: list[luigi.Task] = []
    window = TaskWindow(2, ended.append)
    submission = window.submit(iter(tasks))
    assert submit_all(window) == tasks[:2]
    assert window.take_next() is None
    window.complete(tasks[1].task_id, DONE)
    assert submit_all(window) == [tasks[2]]
    for task in (tasks[0], tasks[2]):
        window.complete(task.task_id, FAILED)
    assert submit_all(window) == tasks[3:]
    for task in tasks[3:]:
        window.complete(task.task_id, DONE)
    assert ended == [tasks[1], tasks[0], *tasks[2:]]
    assert is_over(window, submission)


def test_submissions_take_turns():
    tasks = [[Download(fileset=f"{product}{number}") for number in range(3)] for product in "ab"]
    window = TaskWindow(4)
    one, other = (window.submit(iter(each)) for each in tasks)
    assert [task.fileset for task in submit_all(window)] == ["a0", "b0", "a1", "b1"]
    for task in tasks[1]:
        window.complete(task.task_id, DONE)
        submit_all(window)
    assert other.closed.is_set() and not one.closed.is_set()
    for task in tasks[0]:
        window.complete(task.task_id, DONE)
    assert is_over(window, one)


def test_an_empty_submission_is_over_at_once():
    window, submission = opened()
    assert is_over(window, submission)


def test_a_task_that_several_require_is_kept_until_the_last():
    steps = [chain(name, Extract, shared=True) for name in "ab"]
    window, submission = opened(*(each[Extract] for each in steps))
    submit_all(window)
    assert set(ready(window)) == {Setup()}
    assert window.complete(Setup().task_id, DONE) == []
    assert ready(window) == [each[Download] for each in steps]
    released = window.complete(steps[0][Download].task_id, FAILED)
    assert set(released) == {steps[0][Download].task_id, steps[0][Extract].task_id}
    for task in steps[1].values():
        released = window.complete(task.task_id, DONE)
    assert Setup().task_id in released
    assert is_over(window, submission)


def test_a_task_that_several_require_fails_them_all():
    steps = [chain(name, Extract, shared=True) for name in "ab"]
    window, submission = opened(*(each[Extract] for each in steps))
    submit_all(window)
    assert len(window.complete(Setup().task_id, FAILED)) == 5
    assert is_over(window, submission)


def test_only_what_was_started_here_is_resumed():
    steps = [chain(name, Catalog) for name in "ab"]
    window, _ = opened(*(each[Catalog] for each in steps))
    while window.take_next() is not None:
        pass
    assert window.resumable([]) == []
    first = steps[0][Download]
    window.start(first.task_id)
    assert window.resumable([first.task_id]) == []
    assert window.idle([first.task_id]) == [steps[1][Catalog]]
    for each in steps:
        window.complete(each[Download].task_id, DONE)
    assert window.resumable([]) == [steps[0][Extract]]


def test_abort_releases_whoever_waits_now_or_later():
    task = Download(fileset="f")
    window, submission = opened(task)
    waiting = threading.Thread(target=submission.wait, daemon=True)
    waiting.start()
    submit_all(window)
    assert waiting.is_alive()
    window.abort()
    waiting.join(30)
    assert not waiting.is_alive()
    window.submit(iter([task])).wait()


class Urgent(luigi.Task):
    fileset = luigi.Parameter()
    urgency = luigi.IntParameter(default=0, significant=False)

    @property
    def priority(self) -> int:
        return self.urgency


def urgent(*filesets: tuple[str, int]) -> list[luigi.Task]:
    return [Urgent(fileset=name, urgency=urgency) for name, urgency in filesets]


def test_of_several_submissions_the_highest_priority_comes_first_and_equal_ones_in_turn():
    window = TaskWindow(100)
    window.submit(iter(urgent(("a1", 2), ("a2", 1), ("a3", 1))))
    window.submit(iter(urgent(("b1", 1), ("b2", 1), ("b3", 0))))
    assert [task.fileset for task in submit_all(window)] == ["a1", "b1", "a2", "b2", "a3", "b3"]


def test_a_later_submission_of_higher_priority_gets_the_next_room():
    window = TaskWindow(1)
    window.submit(iter(urgent(("a1", 0), ("a2", 0))))
    (first,) = submit_all(window)
    window.submit(iter(urgent(("b1", 5))))
    assert window.take_next() is None
    window.complete(first.task_id, DONE)
    assert [task.fileset for task in submit_all(window)] == ["b1"]


def test_a_submission_is_closed_while_another_one_fills_the_window():
    window = TaskWindow(1)
    done = window.submit(iter(urgent(("a1", 1))))
    window.submit(iter(urgent(("b1", 0), ("b2", 0))))
    (first,) = submit_all(window)
    window.complete(first.task_id, DONE)
    assert [task.fileset for task in submit_all(window)] == ["b1"]
    assert done.closed.is_set()


def test_a_task_that_is_submitted_twice_is_in_flight_once_and_ends_both_submissions():
    window = TaskWindow(100)
    one = window.submit(iter(urgent(("a", 0), ("b", 0))))
    submit_all(window)
    other = window.submit(iter(urgent(("b", 5))))
    (again,) = submit_all(window)
    assert window.idle([]) == [*urgent(("a", 0)), again]
    assert window.idle([])[1].priority == 5
    window.complete(again.task_id, DONE)
    assert window.take_next() is None
    assert (one.closed.is_set(), other.closed.is_set()) == (False, True)
    window.complete(urgent(("a", 0))[0].task_id, DONE)
    assert is_over(window, one)
