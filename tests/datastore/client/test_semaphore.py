"""Order in which waiting threads acquire a semaphore."""

import threading
import time

from pipeline.datastore.client.semaphore import FifoSemaphore

TIMEOUT_SECONDS = 60


def waiting(semaphore: FifoSemaphore, count: int) -> None:
    until = time.monotonic() + TIMEOUT_SECONDS
    while semaphore.waiting < count:
        assert time.monotonic() < until
        time.sleep(0.0001)


def test_threads_acquire_it_in_the_order_of_their_arrival():
    semaphore, served = FifoSemaphore(2), []

    def user(name: int) -> None:
        semaphore.acquire()
        served.append(name)
        semaphore.release()

    for _ in range(50):
        semaphore.acquire()
        semaphore.acquire()
        served.clear()
        users = []
        for name in range(3):
            users.append(threading.Thread(target=user, args=(name,), daemon=True))
            users[-1].start()
            waiting(semaphore, len(users))
        semaphore.release()
        for each in users:
            each.join(TIMEOUT_SECONDS)
        assert served == [0, 1, 2]
        semaphore.release()


def test_a_thread_that_releases_it_acquires_it_after_those_that_wait():
    semaphore, served = FifoSemaphore(1), []

    def user() -> None:
        with semaphore:
            served.append("other")

    semaphore.acquire()
    other = threading.Thread(target=user, daemon=True)
    other.start()
    waiting(semaphore, 1)
    semaphore.release()
    with semaphore:
        served.append("first")
    other.join(TIMEOUT_SECONDS)
    assert served == ["other", "first"]
    assert semaphore.waiting == 0
