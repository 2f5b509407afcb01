"""Independent work on threads and on a Dask cluster, one of whose workers is killed."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provisioner import api
from provisioner.errors import InputError
from provisioner.studies.work import Stopped, check_wanted, time_left, workers
from tests.waiting import wait_until


def squared(shared: int, item: int) -> int:
    return shared + item * item


def fails(shared: Any, item: int) -> int:
    if item == 3:
        raise InputError("item 3: is not good")
    return item


def until_stopped(seen: list[str], item: int) -> int:
    if item == 0:
        raise InputError("the first fails")
    for _ in range(600):
        time.sleep(0.01)
        try:
            check_wanted()
        except Stopped:
            seen.append("stopped")
            raise
    seen.append("ran on")
    return item


def where(folder: str, item: int) -> int:
    """Note which process began and ended an item; slow enough to be killed in the middle."""
    with open(f"{folder}/{item}", "a") as file:
        file.write(f"begin {os.getpid()}\n")
        file.flush()
        time.sleep(0.15)
        file.write(f"end {os.getpid()}\n")
    return item * item


def test_every_result_comes_once_with_its_index() -> None:
    for threads in (1, 3):
        with workers(threads) as pool:
            assert dict(pool.map(squared, 5, range(20, 30))) == {k: 5 + (20 + k) ** 2 for k in range(10)}


def test_what_fails_ends_the_rest() -> None:
    with workers(2) as pool, pytest.raises(InputError, match="item 3"):
        list(pool.map(fails, None, range(1000)))
    seen: list[str] = []
    with workers(2) as pool, pytest.raises(InputError, match="first"):
        list(pool.map(until_stopped, seen, range(5)))
    wait_until(lambda: bool(seen))
    assert set(seen) == {"stopped"}


def test_an_interrupt_ends_the_threads_before_their_work_is_done() -> None:
    """Their work takes 200 s and asks 100 times a second whether it is wanted; threads that do not ask end with it."""
    code = """
import sys, time
from provisioner.studies.work import check_wanted, workers
def slow(shared, item):
    for _ in range(20_000):
        time.sleep(0.01)
        check_wanted()
with workers(2) as pool:
    print("ready", flush=True)
    list(pool.map(slow, None, range(4)))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.studies.work.monotonic", lambda: 150.0)
    assert time_left(0, 10, 150.0) == "0 of 10"
    assert time_left(5, 10, 100.0) == "5 of 10, 50 s left"
    assert time_left(10, 10, 100.0) == "10 of 10"


def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"dask 127\.0\.0\.1:9: no scheduler answers"), workers(dask="127.0.0.1:9"):
        pass
    with pytest.raises(InputError, match="threads: are of this machine; leave them out with dask"):
        api.sweep(design="baseline-h100", mixed="1:2", threads=2, dask="127.0.0.1:9")


@pytest.mark.parametrize("address", ["foo", "", "tcp://", "10.0.0.5", "http://127.0.0.1:80"])
def test_what_is_no_address_of_a_scheduler(address: str) -> None:
    why = rf"dask {address}: (must be the address|unknown address scheme)"
    with pytest.raises(InputError, match=why), workers(dask=address):
        pass


def test_what_listens_but_is_no_scheduler(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that never answers: nothing is waited for without end, and only the error says so."""
    monkeypatch.setattr("provisioner.studies.work._CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"dask {address}: no scheduler answers there"), workers(dask=address):
            pass
        gc.collect()
    assert capfd.readouterr().err == ""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two worker processes on loopback; they restart nothing by themselves."""
    log = (tmp_path / "dask.log").open("wb")
    file = tmp_path / "scheduler.json"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    options = {"stdout": log, "stderr": log, "cwd": tmp_path, "env": here}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)], **options
    )  # type: ignore[call-overload]
    wait_until(lambda: scheduler.poll() is not None or (file.is_file() and bool(file.read_text())))
    assert scheduler.poll() is None, (tmp_path / "dask.log").read_text()
    import json

    address = json.loads(file.read_text())["address"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    two = [subprocess.Popen([*worker, "--no-dashboard"], **options) for _ in range(2)]  # type: ignore[call-overload]
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    yield address, [*two, scheduler]
    for process in (*two, scheduler):
        process.kill()
    for process in (*two, scheduler):
        process.wait()
    log.close()


def test_a_killed_worker_costs_only_its_time(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, processes = cluster
    folder = tmp_path / "items"
    folder.mkdir()
    results = {}
    with workers(dask=address) as pool:
        assert pool.count == 2
        for index, result in pool.map(where, str(folder), range(24)):
            results[index] = result
            if len(results) == 6:
                processes[0].kill()
    assert results == {k: k * k for k in range(24)}
    began = [(folder / str(k)).read_text().split() for k in range(24)]
    pids = {each[1] for each in began} | {each[-1] for each in began}
    assert len(pids) == 2  # both worked, and neither is this process
    assert str(os.getpid()) not in pids
    ended = [[pid for word, pid in zip(each[::2], each[1::2], strict=True) if word == "end"] for each in began]
    assert all(ended)  # whatever the killed worker left was done again
    assert {each[-1] for each in ended[-8:]} == {str(processes[1].pid)}


@pytest.mark.parametrize(
    ("killed", "why"), [((0, 1), "its workers were lost, or it does not answer"), ((2,), "the scheduler was lost")]
)
def test_a_cluster_that_is_lost(
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
    killed: tuple[int, ...],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One error, soon, without the client's own texts; points done before are in the journal and are not done again."""
    monkeypatch.setattr("provisioner.studies.work._LOST_S", 1.0)
    address, processes = cluster
    out = str(tmp_path / "s.csv")
    asked: dict[str, Any] = {"design": "baseline-h100", "mixed": "8:40", "rate_rps": 8.0, "slo": "p90", "duration_s": 9}

    def told(text: str) -> None:
        if "sweeping" in text:
            for k in killed:
                processes[k].kill()

    with pytest.raises(InputError, match=why) as lost:
        api.sweep(**asked, dask=address, out=[out], progress=told)
    done = Path(f"{out}.journal").read_bytes().count(b"\n") - 1
    assert f"; {done} of 33 points done; kept in {out}.journal" in str(lost.value)
    assert 0 < done < 33
    assert capfd.readouterr().err == ""
    assert len(api.sweep(**asked, out=[out], resume=True).points) == 33


def test_studies_on_a_cluster_find_what_threads_find(
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
) -> None:
    import provisioner

    asked: dict[str, Any] = {"rate_rps": 8.0, "slo": "p99", "duration_s": 20.0, "sets": 2, "tensor_parallel": "largest"}
    designs = ("splitwise-hh", "baseline-h100")
    for study in (
        partial(provisioner.compare, same="throughput", designs=designs, **asked),
        partial(provisioner.sensitivity, designs=designs, inputs=("rate", "price"), **asked),
        partial(
            provisioner.vary,
            name="rate",
            values=[4, 8],
            clusters=["splitwise-hh=4+1", "baseline-h100=3"],
            duration_s=20,
        ),
    ):
        here, there = study(), study(dask=cluster[0])
        assert here.to_frame().equals(there.to_frame())
