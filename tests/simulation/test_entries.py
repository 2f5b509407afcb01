"""Entries of the compiled event loop: from the library, or compiled by numba, with equal results."""

from __future__ import annotations

import fcntl
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from provisioner.options.defaults import POLICIES
from provisioner.simulation import build, compilation, engine, entries
from provisioner.simulation.cluster import Cluster, Outage
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet, closed_loop, drawn, from_trace
from provisioner.simulation.run import Run, StopLimit, compile_simulator, run
from provisioner.specs import catalog
from provisioner.specs.traces import read_trace
from tests.simulation.clusters import alone, cluster, ready, shipped
from tests.simulation.test_sessions import sessions

PUBLISHED = Path(__file__).parents[3] / "shared/reference/published-simulator-runs/coding-70rps-120s.csv"
MODEL = "llama2-70b"
Serve = Callable[[Cluster, RequestSet], Run]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the sources as they are, built once for all workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "event_loop.so"
    with (folder / "event_loop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            command = [sys.executable, "-m", "provisioner.simulation.build", str(path)]
            done = subprocess.run(command, capture_output=True, text=True)
            if "is not built" in done.stderr:
                pytest.skip(done.stderr)
            assert done.returncode == 0, done.stderr
    return path


def instead(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Take the library at a path in place of the package's."""
    monkeypatch.setattr(entries, "built", lambda: entries.load(path))


def test_every_compiled_module_is_in_the_digest() -> None:
    """Also those that the event loop reaches through others."""
    folder = Path(engine.__file__).parent
    compiled = {p.stem for p in folder.glob("*.py") if "@compiled" in p.read_text(encoding="utf-8")}
    assert compiled | {"entries", "records", "pointers"} == set(entries.SOURCES)
    assert len(entries.sources()) == 64


def test_the_declared_entries_are_the_functions() -> None:
    functions = engine.functions(entries.sources())
    assert {name: tuple(inspect.signature(each).parameters) for name, each in functions.items()} == entries.ENTRIES


@lru_cache
def requests(kind: str) -> RequestSet:
    """Requests of a kind, some thousand."""
    rng = np.random.default_rng(5)
    if kind == "closed loop":
        return closed_loop(catalog.workload("conversation"), 60, 600, rng)
    if kind == "sessions":
        return sessions(150, 60.0, 3.0)
    return drawn(catalog.workload("conversation"), 25.0, 40.0, rng)


@pytest.mark.parametrize("kind", ["at a rate", "an outage", "closed loop", "sessions", "stopped early"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_library_gives_the_results_of_numba(
    policy: str, kind: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record of every request and replica, bit for bit, near saturation and with a timeline."""
    machine = shipped(MODEL, "dgx-h100")
    outages = (Outage(0, 3.0, 20.0), Outage(1, 10.0, 12.0)) if kind == "an outage" else ()
    which = cluster(policy, machine, 2, machine, 2, *outages)
    stop = (StopLimit("e2e", "seconds", 5.0, 100),) if kind == "stopped early" else ()
    assert_equal(which, requests(kind), library, monkeypatch, stop)


def test_the_library_gives_the_published_run(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"no trace at {PUBLISHED}")
    machine = shipped("bloom-176b", "dgx-h100", "splitwise-sim")
    which = cluster(Policy("splitwise").as_published(), machine, 27, machine, 3)
    assert_equal(which, from_trace(read_trace(str(PUBLISHED))), library, monkeypatch)


def assert_equal(
    which: Cluster,
    given: RequestSet,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: tuple[StopLimit, ...] = (),
) -> None:
    """Run by the library and by numba, and compare all that a run leaves."""
    perf = which.pools[0].perf
    prepared = ready(given, alone(perf.model.name, perf.assumptions))
    done = []
    for path in (library, library.with_name("none")):
        instead(monkeypatch, path)
        assert (compile_simulator() is compilation.LOOP) == (path != library)
        done.append(run(which, prepared, stop=stop, timeline=True))
    first, second = done
    assert first.status == second.status == ("rejected" if stop else "finished")
    assert int(first.clock["events"]) == int(second.clock["events"]) > 1000
    for name in ("requests", "replicas", "batch_time_s", "timeline", "limits_beyond"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def test_the_library_needs_no_other(library: Path) -> None:
    """It loads on every Linux: no symbol is asked of the C library that was not in glibc 2.17, and none of Python."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf is absent")
    wants = subprocess.run(["readelf", "-W", "-d", "-s", library], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.*?)\]", wants)
    assert set(needed) <= {"libc.so.6", "libm.so.6"}, needed
    undefined = re.findall(r" UND (\S+)", wants)
    for symbol in undefined:
        version = re.search(r"@GLIBC_2\.(\d+)", symbol)
        assert version and int(version[1]) <= 17, symbol
    assert {*entries.ENTRIES, entries.DIGEST} == set(re.findall(r"GLOBAL DEFAULT +\d+ (\S+)", wants)) - {*undefined}


def test_a_plan_with_the_library_imports_no_numba(library: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from provisioner.simulation import entries\n"
        f"entries.LIBRARY = Path({str(library)!r})\n"
        "import provisioner\n"
        "plan = provisioner.plan(workload='coding', rate_rps=2, slo='p99', designs='baseline-h100', sets=2, "
        "duration_s=10.0, tensor_parallel=8)\n"
        "assert plan.evidence.optimal, plan\n"
        "print({'numba', 'llvmlite'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n", done.stdout


def linked(folder: Path, digest: str, *, entry: bool = True) -> Path:
    """A library in C with a digest, whose entries fail."""
    try:
        command = build.linker()
    except build.BuildError as reason:
        pytest.skip(str(reason))
    source, path = folder / "false.c", folder / "false.so"
    body = f'const char {entries.DIGEST}[] = "{digest}";\n' if digest else ""
    body += "".join(f"long long {name}(void) {{ return {entries.FAILED}; }}\n" for name in entries.ENTRIES if entry)
    source.write_text(body)
    subprocess.run([*command, "-shared", "-fPIC", "-o", path, source], check=True)
    return path


def test_a_library_of_other_sources_or_another_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then numba compiles."""
    text = tmp_path / "text.so"
    text.write_text("the library of another machine")
    for path in (linked(tmp_path, "0" * 64), linked(tmp_path, ""), text, tmp_path / "absent.so"):
        assert entries.load(path) is None
    instead(monkeypatch, text)
    assert compile_simulator() is compilation.LOOP


def test_an_error_in_the_library_is_one_in_python(tmp_path: Path) -> None:
    failing = entries.load(linked(tmp_path, entries.sources()))
    assert failing is not None
    with pytest.raises(RuntimeError, match="the event loop failed in advance"):
        failing["advance"](0, 1)


def test_a_machine_that_cannot_build_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = build.linker()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.which", lambda name: None)
        with pytest.raises(build.BuildError, match=r"none of .*cc.* was found"):
            build.build(tmp_path / "event_loop.so")
    monkeypatch.setattr(build, "_object", lambda: b"no object")
    monkeypatch.setattr(os, "environ", {**os.environ})
    with pytest.raises(build.BuildError, match=f"{command[0]} could not link it: "):
        build.build(tmp_path / "event_loop.so")
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(build.BuildError, match="on Linux alone, for x86_64 and aarch64"):
        build.build(tmp_path / "event_loop.so")
    assert not list(tmp_path.iterdir())


def test_without_a_folder_for_the_cache_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real = compilation.numba.njit
    asked: list[bool] = []

    def njit(**options: object) -> object:
        asked.append("cache" in options)
        if "cache" in options:
            raise RuntimeError("cannot cache function 'advance': no locator available")
        return real(**options)

    monkeypatch.setattr("numba.njit", njit)
    functions = engine.functions("0" * 64).values()
    assert all(compilation._kept(function).targetoptions["nogil"] for function in functions)
    assert asked == [True, False] * len(entries.ENTRIES)
