"""Tasks that leave one line each in a journal, for tests of the worker: ``luigi --module chain_tasks Root``.

Each number is a chain of three steps, First ← Second ← Third, of which the last one is optional. The
environment says what they do: FOLDER, COUNT of chains of each of PRODUCTS products, FAILING steps as
``Second-3,…``, and with GATE the steps that wait until that file exists, as ``First``.
"""

import os
import threading
import time
from pathlib import Path

import luigi

import tasks.workflow  # noqa: F401  (installs the worker)
from tasks.runtime.current import current_run
from tasks.runtime.task import MirrorTask

FOLDER = Path(os.environ["FOLDER"])
FAILING = os.environ.get("FAILING", "").split(",")
GATE = os.environ.get("GATE", "")


class Step(MirrorTask):
    """One step of a chain."""

    product = luigi.Parameter()
    number = luigi.IntParameter()
    priority = 0

    def output(self):
        return luigi.LocalTarget(FOLDER / f"{self.name}.done")

    @property
    def name(self) -> str:
        return f"{self.task_family}-{self.product}{self.number}"

    def run(self):
        note(f"begin {self.name}")
        if self.task_family == GATE:
            while not (FOLDER / "open").exists():
                time.sleep(0.01)
        note(f"end {self.name}")
        if self.name in FAILING:
            raise OSError(5, "made up", self.name)
        Path(self.output().path).touch()


class First(Step):
    """The first step; takes one of the connections."""

    resources = {"connections": 1}  # noqa: RUF012  (Luigi reads a plain attribute)


class Second(Step):
    """The second step."""

    def requires(self):
        return First(**self.param_kwargs)


class Third(Step):
    """The last step, without which the chain counts as done."""

    optional = True

    def requires(self):
        return Second(**self.param_kwargs)


class Product(MirrorTask):
    """Submits the chains, and waits for them."""

    product = luigi.Parameter()
    only_waits = True

    def output(self):
        return luigi.LocalTarget(FOLDER / f"{self.product}.complete")

    def run(self):
        current_run().submit(self.chains())
        current_run().refuse_when_stopping()
        Path(self.output().path).touch()

    def chains(self):
        for number in range(int(os.environ["COUNT"])):
            yield Third(product=self.product, number=number)
        if "SLIP" in os.environ:
            raise KeyError("a slip")


class Root(MirrorTask, luigi.WrapperTask):
    """All products."""

    def requires(self):
        return [Product(product=product) for product in os.environ.get("PRODUCTS", "a")]


def note(line: str) -> None:
    with open(FOLDER / "journal", "a") as file:
        file.write(line + "\n")


if "THREADS" in os.environ:
    # As on a machine that allows no more threads.
    whole, left = threading.Thread.start, [None] * int(os.environ["THREADS"])

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("task"):
            if not left:
                raise RuntimeError("can't start new thread")
            left.pop()
        whole(thread)

    threading.Thread.start = start
