"""Independent work, side by side: threads of this machine, or the workers of a Dask cluster.

Both have the interface of ``concurrent.futures``. The compiled simulator lets threads run at once. A Dask cluster is
reached through its client's own executor; the work of a lost worker is done again by another.
"""

import concurrent.futures
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread, local
from time import monotonic
from typing import Any, Final, TypeVar, cast

from provisioner.errors import InputError
from provisioner.options import spelled
from provisioner.progress import Step
from provisioner.specs.units import format_seconds

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_S: Final = 0.1
_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 5.0
_LOST_S: Final = 15.0  # without a worker, or an answer of the scheduler
_RETRIES: Final = 5  # times that a task whose worker was lost is given to another

_thread = local()


class Stopped(Exception):
    """The work of a thread is no longer wanted."""


class Lost(InputError):
    """The cluster that the work runs on is gone."""


def check_wanted() -> None:
    """End the calling thread's work if it is no longer wanted; called now and then by long work."""
    stopped = getattr(_thread, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise Stopped


@dataclass(frozen=True, slots=True, eq=False)
class Workers:
    """The place where independent work runs; ``count`` pieces of it run at once."""

    executor: Executor
    count: int
    share: Callable[[object], object] = lambda value: value
    check_alive: Callable[[], None] = lambda: None
    stopped: Event = field(default_factory=Event)

    def map(
        self,
        function: Callable[[Shared, Item], Result],
        shared: Shared,
        items: Sequence[Item],
        waiting: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[int, Result]]:
        """``function(shared, item)`` of every item: its index and its result, as they are finished.

        The function is one of a module, since it may run in another process; what is ``shared`` goes there once.
        ``waiting`` is called ten times a second while nothing is finished. Raises what the first to fail raised.
        """
        finished: SimpleQueue[tuple[int, Future[Result]]] = SimpleQueue()
        everywhere = cast("Shared", self.share(shared))  # of a cluster its future, which a worker gets the value of
        stopped = self.stopped if isinstance(self.executor, ThreadPoolExecutor) else None

        def submitted(item: Item) -> Future[Result]:
            """A thread has the time limit of its caller; a cluster looks for futures among the arguments."""
            if stopped is None:
                return self.executor.submit(_work, stopped, function, everywhere, item)
            return self.executor.submit(copy_context().run, _work, stopped, function, everywhere, item)

        futures = [submitted(item) for item in items]
        try:
            for index, future in enumerate(futures):
                future.add_done_callback(lambda done, index=index: finished.put((index, done)))  # type: ignore[misc]
            left = len(futures)
            while left:
                try:
                    index, future = finished.get(timeout=_POLL_S)
                except Empty:
                    self.check_alive()
                    waiting()
                    continue
                left -= 1
                yield index, future.result()
        except BaseException:
            self.stopped.set()
            for future in futures:
                future.cancel()
            raise


def _work(stopped: Event | None, function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Result:
    _thread.stopped = stopped
    check_wanted()
    return function(shared, item)


@contextmanager
def workers(threads: int | None = None, dask: str | None = None) -> Iterator[Workers]:
    """Threads of this machine, as many as it has cores unless told otherwise; or a Dask cluster by its address."""
    if dask is not None:
        with _dask(dask) as found:
            yield found
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    executor = ThreadPoolExecutor(threads or cores, thread_name_prefix="study")
    found = Workers(executor, threads or cores)
    try:
        yield found
    except BaseException:
        found.stopped.set()  # ends the work of all threads at their next ``check_wanted``
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Workers]:
    what = f"{spelled('dask')} {address}"
    if not re.fullmatch(r"(\w+://)?[^/]+:\d{1,5}/?", address):
        raise InputError(f"{what}: must be the address of a scheduler, such as tcp://10.0.0.5:8786")
    try:
        from distributed import CancelledError, Client, KilledWorker
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise InputError(f"{spelled('dask')}: needs the extra: pip install 'provisioner[dask]'") from error

    class _Client(Client):
        """A client that does not wait for a scheduler that is gone when it closes, as it does when deleted too."""

        def close(self, timeout: float = 2.0) -> None:
            with suppress(Exception):
                super().close(timeout)  # type: ignore[no-untyped-call]

    for name in ("distributed", "distributed.client"):  # they tell of a lost connection on many lines
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        connect = partial(_Client, address, timeout=_CONNECT_S, set_as_default=False)
        client: Any = _within(_CONNECT_S + _ANSWER_S, connect)  # type: ignore[explicit-any]
    except Exception as error:  # of the name, the port, what answers there, or its version
        why = f"no scheduler answers there within {_CONNECT_S:g} s; start one with: dask scheduler"
        raise InputError(f"{what}: {error if isinstance(error, ValueError | ImportError) else why}") from error
    seen_s = monotonic()

    def check_alive() -> None:
        nonlocal seen_s
        with suppress(Exception):  # no answer
            seen_s = monotonic() if _within(_ANSWER_S, client.nthreads) else seen_s
        if monotonic() > seen_s + _LOST_S:
            raise Lost(f"{what}: its workers were lost, or it does not answer, for {_LOST_S:g} s")

    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise InputError(f"{what}: the scheduler has no workers; start one with: dask worker {address}")
        # a task of its own, so that what is shared is made again when its worker is lost
        share = partial(client.submit, lambda value: value, pure=False)
        try:
            yield Workers(client.get_executor(retries=_RETRIES, pure=False), threads, share, check_alive)
        except (CancelledError, concurrent.futures.CancelledError, CommClosedError, KilledWorker) as error:
            gone = "workers were" if isinstance(error, KilledWorker) else "the scheduler was"
            raise Lost(f"{what}: {gone} lost") from error


def _within(limit_s: float, function: Callable[[], Result]) -> Result:
    """The result of a function, which is left to itself if it takes longer than a limit: then ``TimeoutError``."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(limit_s)


def time_left(done: int, total: int, since_s: float) -> Step:
    """The share of work done, and the time left at this pace; ``since_s`` is its beginning, by ``monotonic``."""
    text = f"{done:,} of {total:,}"
    if not 0 < done < total:
        return Step(text, done, total)
    left_s = (monotonic() - since_s) / done * (total - done)
    return Step(f"{text}, {format_seconds(float(f'{left_s:.2g}'))} left", done, total, left_s)
