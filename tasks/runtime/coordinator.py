"""The assistants of the running update, as its worker sees them (pipeline/mirror/resources/peers.py)."""

import logging
import time
from collections.abc import Callable

from luigi.rpc import RemoteScheduler
from luigi.scheduler import FAILED

from pipeline.mirror.resources.peers import News, OpenUpdate, Registration, StepDone
from tasks.runtime.run import STARTED, Run

LOOK_SECONDS = 0.25

log = logging.getLogger("ipp-mirror")


class Crew:
    """Whoever takes part in the update; for use by the thread of its worker.

    ``settle`` is told of each step that an assistant did.
    """

    def __init__(
        self, run: Run, scheduler: RemoteScheduler, worker: str, settle: Callable[[StepDone], None]
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._settle = settle
        self._update = OpenUpdate(run.site.layout, STARTED, worker, run.site.settings)
        self._admitted: list[Registration] = []
        self._look_at = 0.0
        for left in run.left_behind:
            self._give_back(left)

    @property
    def workers(self) -> list[str]:
        """The workers that assist, as the scheduler knows them."""
        return [assistant.worker for assistant in self._admitted]

    @property
    def processors(self) -> int:
        """How many processors they have, all together."""
        return sum(assistant.processors for assistant in self._admitted)

    def look(self, admit: bool) -> bool:
        """See what is new, once in a while, and ``admit`` whom there is; whether somebody came or went."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        if self._run.stopping.is_set():
            self._update.end(stopped=True)
        before = self._admitted
        news = self._news()
        self._admit(news, admit)
        for assistant in news.gone:
            self._give_back(assistant.worker)
        return before != self._admitted

    def hear(self) -> None:
        """Take note of what was done up to this moment."""
        self._take_note(self._update.reported())

    def dismiss(self) -> None:
        """Let all finish what they have in hand, and wait until they are gone, but for those that hang."""
        self._update.end(stopped=self._run.stopping.is_set())
        while (news := self._news()).there:
            time.sleep(LOOK_SECONDS)
        if news.hanging:
            log.warning("%d assistants hang and were not waited for; the next run names them", news.hanging)

    def close(self) -> None:
        """Take no more assistants."""
        self._update.close()

    def _news(self) -> News:
        news = self._update.look()
        self._take_note(news.steps)
        return news

    def _take_note(self, steps: list[StepDone]) -> None:
        for step in steps:
            self._run.site.tally.count(received=step.received)
            self._run.note(step.code)
            self._settle(step)

    def _admit(self, news: News, newcomers: bool) -> None:
        """Let those who are there take part, as soon as every fileset here keeps to its connections."""
        shares = self._run.site.shares
        shares.share(bool(news.there or news.hanging))
        known = [assistant for assistant in self._admitted if assistant in news.there]
        admitted = news.there if newcomers and shares.kept else known
        if admitted == self._admitted:
            return
        for assistant in admitted:
            if assistant not in self._admitted:
                log.info("%s assists", assistant)
        for assistant in self._admitted:
            if assistant not in admitted:
                log.info("%s does not assist any more", assistant)
        self._admitted = admitted
        self._update.admit(admitted)
        self._scheduler.update_resources(**self._run.resources(self.processors))

    def _give_back(self, gone: str) -> None:
        """Let others do what somebody who is gone had in hand, at once: the scheduler would wait a while."""
        for worker in self._scheduler.worker_list():
            if worker["name"] == gone:
                for task_id in worker["running"]:
                    self._scheduler.add_task(worker=gone, task_id=task_id, status=FAILED, runnable=False)
