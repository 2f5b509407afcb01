"""A whole profile on the CPU with a tiny model: points, files, layers scaled, interrupts and refusals."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import InputError, Interrupted
from provisioner.perf.curves import fit_measured
from provisioner.perf.points import COLUMNS, read_points
from provisioner.profiling.grid import Grid
from provisioner.profiling.layers import Decoder
from provisioner.profiling.result import NO_ALL_REDUCE, Profile, output_paths
from provisioner.profiling.room import USABLE_SHARE, weights_bytes, work_bytes
from provisioner.profiling.run import profile, question_of
from provisioner.profiling.shape import Shard
from provisioner.profiling.timing import Timing
from provisioner.progress import Step
from provisioner.studies.journal import Journal
from tests.profiling.clock import by_work
from tests.profiling.shapes import KINDS, SMALL_GRID, TINY, tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")
torch.set_num_threads(1)

DEEP = tiny(name="deep", layers=12, hidden_size=256, heads=8, kv_heads=8, head_dim=32, intermediate_size=1024)
SHORT_GRID = Grid(
    prompt_tokens=(32, 128),
    batched_prompt_tokens=16,
    prompt_batches=(2,),
    context_tokens=32,
    decode_batches=(1, 4),
    other_context_tokens=(),
    context_batches=(1,),
)


def _memory_for(layers: int) -> float:
    """The smallest memory in which this many of the deep model's layers leave room for all work."""
    shard = Shard.of(DEEP, 1)
    most = max(work_bytes(shard, work, layers, 4) for work in SHORT_GRID.works())
    return (weights_bytes(shard, layers, SHORT_GRID.longest_tokens, 4) + most) / USABLE_SHARE + 1024


@pytest.fixture(scope="module")
def tiny() -> Profile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("provisioner.profiling.run.time_step", by_work)
        return profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=5, warm_up=10)


def test_a_profile_gives_a_curve_that_loads(tiny: Profile, tmp_path: Path) -> None:
    """The file is read by the project's reader, and the fitted curve is positive; long prompts take longer."""
    curve, about = tiny.write(tmp_path / "curve.csv")
    assert about == tmp_path / "curve.yaml"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.csv", "curve.yaml"]
    groups = read_points(curve, model="tiny", machine="a-cpu")
    assert list(groups) == [1]
    assert [p.label for p in groups[1]] == [p.label for p in tiny.points]
    for read, timed in zip(groups[1], tiny.points, strict=True):
        assert read.latency_s == pytest.approx(timed.latency_s, rel=1e-8)
        assert (read.provenance, read.repeats) == ("measured", 5)
    curves = fit_measured(groups[1], ("tiny", "a-cpu", 1), 1e-12)
    assert curves.axis_context_tokens == 64
    assert not curves.refused and not curves.dips
    # one token through 2 layers and the head; QKV, output, gate and up, down, and attention to 64 tokens
    layer = 64 * (64 + 2 * 32) + 64 * 64 + 64 * 2 * 128 + 128 * 64 + 2 * 64 * 64
    assert float(curves.decode_s(1, 64)) == pytest.approx((2 * layer + 64 * 128) / 1e9)
    assert float(curves.prompt_s(1024)) > 64 * float(curves.prompt_s(16))


def test_every_work_of_the_grid_is_a_point_with_its_context(tiny: Profile) -> None:
    at = {(p.phase, p.prompt_tokens, p.batch): p for p in tiny.points}
    assert len(at) == len(SMALL_GRID.works()) and not tiny.left_out and not tiny.without_graph
    assert at["decode", 64, 16].context_tokens == 1024
    assert at["prompt", 16, 2].batched_tokens == 32
    assert all(p.min_s <= p.latency_s <= p.max_s for p in tiny.points)
    assert tiny.layers_timed == 2


def test_the_file_beside_the_curve_says_what_was_done_on_what(tiny: Profile, tmp_path: Path) -> None:
    curve, about = tiny.write(tmp_path / "curve.csv")
    said = yaml.safe_load(about.read_text())
    assert said["shape"]["kv_heads"] == 2 and said["grid"]["decode_batches"] == [1, 4, 16]
    assert (said["provenance"], said["repeats"], said["warm_up"]) == ("measured", 5, 10)
    assert (said["layers"], said["layers_timed"], said["dtype"]) == (2, 2, "fp32")
    assert said["environment"]["device"] == "cpu" and said["environment"]["torch"] == torch.__version__
    assert said["environment"]["gpu"] == {} and said["environment"]["cuda"] is None
    assert not any("all-reduce" in line for line in said["not_measured"])
    with curve.open() as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS and {row[-1] for row in rows} == {""}  # no power of a CPU


@pytest.mark.parametrize("shape", KINDS, ids=[shape.name for shape in KINDS])
def test_every_kind_of_model_is_timed(shape: Any) -> None:
    found = profile(shape, "a-cpu", 2, grid=SHORT_GRID, device="cpu", dtype="bf16", repeats=2, warm_up=0)
    assert len(found.points) == len(SHORT_GRID.works())
    assert found.not_measured[0] == NO_ALL_REDUCE
    assert {point.provenance for point in found.points} == {"assumed"}
    assert (found.tensor_parallel, found.dtype) == (2, "bf16")


def _seconds(layers: int) -> Callable[..., Timing]:
    """A clock by which a layer takes 1 s and embedding with LM head 7 s; of a step, by how many layers it runs."""
    module: Any = import_module("provisioner.profiling.layers")

    def time_step(step: Callable[[], object], *_: object) -> Timing:
        calls = []
        original = module.mlp_part

        def counted(*arguments: Any) -> Any:
            calls.append(1)
            return original(*arguments)

        module.mlp_part = counted
        try:
            step()
        finally:
            module.mlp_part = original
        ends = 7.0 if len(calls) in (0, layers) else 0.0
        return Timing(len(calls) + ends, len(calls) + ends, len(calls) + ends)

    return time_step


@pytest.mark.parametrize(("held", "memory"), [(12, 1e10), (3, _memory_for(3)), (5, _memory_for(5))])
def test_fewer_layers_are_scaled_to_all(monkeypatch: pytest.MonkeyPatch, held: int, memory: float) -> None:
    """12 layers at 1 s and the ends at 7 s are 19 s, from any number of layers timed."""
    monkeypatch.setattr("provisioner.profiling.run.time_step", _seconds(DEEP.layers))
    found = profile(DEEP, "a-cpu", grid=SHORT_GRID, device="cpu", repeats=1, memory_bytes=memory)
    assert found.layers_timed == held
    assert not found.left_out
    assert [p.latency_s for p in found.points] == pytest.approx([19.0] * len(found.points))


@pytest.mark.parametrize("memory", [1e10, _memory_for(3)])
def test_every_sequence_attends_to_as_many_tokens_as_asked(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    """Attention gets a token's keys of the whole context, itself included, in every layer."""
    seen: list[tuple[int, int, int]] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(queries: Any, keys: Any, values: Any, **more: Any) -> Any:
        seen.append((keys.shape[0], keys.shape[2], values.shape[2]))
        return attend(queries, keys, values, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    grid = replace(SHORT_GRID, other_context_tokens=(48,))
    held = profile(DEEP, "a-cpu", grid=grid, device="cpu", repeats=1, warm_up=0, memory_bytes=memory).layers_timed
    expected = [(work.batch, work.tokens, work.tokens) for work in grid.works() for _ in range(held)]
    assert seen == expected


def test_layer_by_layer_is_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """All points together, by this process' own time on one core, since other work runs there; within a factor of 2.

    A time that is not scaled would be a third of it.
    """
    monkeypatch.setattr("provisioner.profiling.timing.perf_counter", time.process_time)
    whole, parts = (
        profile(DEEP, "a-cpu", grid=SHORT_GRID, device="cpu", repeats=9, memory_bytes=memory)
        for memory in (1e10, _memory_for(4))
    )
    assert (whole.layers_timed, parts.layers_timed) == (12, 4)
    for phase in ("prompt", "decode"):
        one, other = (sum(p.min_s for p in each.points if p.phase == phase) for each in (whole, parts))
        assert 1 / 2 < one / other < 2, phase


_OF_CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError(), _OF_CPU])
def test_work_that_runs_out_of_memory_is_left_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from provisioner.profiling import run

    timed = run._time_work

    def fails(job: Any, work: Any) -> Timing:
        if work.label in ("decode 16 at 64", "prompt 16 x 2"):
            raise error
        return timed(job, work)

    monkeypatch.setattr(run, "_time_work", fails)
    found = profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1)
    assert [(each.work, each.reason) for each in found.left_out] == [
        ("prompt 16 x 2", "the machine ran out of memory"),
        ("decode 16 at 64", "the machine ran out of memory"),
    ]
    assert found.to_dict()["left_out"][0]["work"] == "prompt 16 x 2"


def test_where_nothing_can_be_timed_there_is_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Timing:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("provisioner.profiling.run._time_work", fails)
    with pytest.raises(InputError, match="too few points could be timed for a curve: the machine ran out of memory"):
        profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1)


@pytest.mark.parametrize(("error", "refused"), [(_OF_CPU, InputError), (RuntimeError("else"), RuntimeError)])
def test_weights_for_which_memory_does_not_do_are_refused(
    monkeypatch: pytest.MonkeyPatch, error: Exception, refused: type[Exception]
) -> None:
    def fails(*_: object) -> Decoder:
        raise error

    monkeypatch.setattr(Decoder, "random", fails)
    with pytest.raises(refused) as told:
        profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1, memory_bytes=2**33)
    if refused is InputError:
        planned = "8.0 GiB were planned with, and memory ran out over the whole model"
        assert str(told.value) == f"memory_bytes: {planned}; give less"


def _stopping(after: int) -> Callable[[str], None]:
    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        if len(lines) == after:
            raise KeyboardInterrupt

    return progress


def test_an_interrupt_says_what_was_done() -> None:
    with pytest.raises(Interrupted, match=r"3 of 11 points timed; nothing written"):
        profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1, progress=_stopping(4))


def test_an_interrupt_before_the_first_point_keeps_nothing(tmp_path: Path) -> None:
    book = Journal.open(tmp_path / "a.journal", question_of(TINY, "a-cpu", device="cpu"), resume=False)
    with pytest.raises(Interrupted, match="0 of 11 points timed; nothing written"):
        profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", journal=book, progress=_stopping(1))
    book.close(finished=True)


def test_a_journal_keeps_what_was_timed(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv.journal"
    question = question_of(TINY, "a-cpu", device="cpu", repeats=1)
    book = Journal.open(path, question, resume=False)
    with pytest.raises(Interrupted, match="3 of 11 points timed; kept in the journal, resume goes on from there"):
        profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1, journal=book, progress=_stopping(4))
    book.close(finished=False)
    book = Journal.open(path, question, resume=True)
    kept = dict(book.done)
    assert len(kept) == 3
    lines: list[str] = []
    found = profile(TINY, "a-cpu", grid=SMALL_GRID, device="cpu", repeats=1, journal=book, progress=lines.append)
    book.close(finished=True)
    assert found.environment["points_of_earlier_sessions"] == 3
    assert [line.done for line in lines if isinstance(line, Step)] == [3, *range(4, 12)]
    assert len(lines) == 1 + 8 and lines[1].startswith("prompt 16 x 2: ") and lines[-1].endswith("(11 of 11)")
    assert [p.latency_s for p in found.points[:3]] == [record["latency_s"] for record in kept.values()]
    with pytest.raises(InputError, match="differs in repeats"):
        Journal.open(path, question, resume=False).close(finished=False)
        Journal.open(path, question_of(TINY, "a-cpu", device="cpu", repeats=2), resume=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "fp8"}, "dtype: fp8 is not built here"),
        ({"dtype": "int3"}, "dtype: must be bf16, fp16, fp32, got 'int3'"),
        ({"device": "tpu9"}, "device: must be cuda, cuda:N or cpu, got 'tpu9'"),
        ({"device": "meta"}, "device: must be cuda, cuda:N or cpu, got 'meta'"),
        ({"repeats": 0}, "repeats: must be a whole number, 1 or more, got 0"),
        ({"warm_up": -1}, "warm_up: must be a whole number, 0 or more, got -1"),
        ({"memory_bytes": 0}, "memory_bytes: must be above 0 bytes, got 0"),
        ({"memory_bytes": 1000}, "too little is left for a curve"),
        ({"tensor_parallel": 3}, "tensor_parallel 3: must divide heads = 4"),
    ],
)
def test_nonsense_is_refused(given: dict[str, Any], message: str) -> None:
    all_of_it: dict[str, Any] = {"grid": SMALL_GRID, "device": "cpu"} | given
    with pytest.raises(InputError, match=message):
        profile(TINY, "a-cpu", **all_of_it)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_timed_unasked() -> None:
    with pytest.raises(InputError, match="device: PyTorch sees no GPU here"):
        profile(TINY, "a-machine", grid=SMALL_GRID)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tiny: Profile, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*none does not exist"):
        output_paths(tmp_path / "none" / "curve.csv")
    with pytest.raises(InputError, match=r"must end in \.csv"):
        output_paths(tmp_path / "curve.txt")
    (tmp_path / "curve.yaml").mkdir()
    with pytest.raises(InputError, match=r"curve\.yaml: is not a file that can be written"):
        tiny.write(tmp_path / "curve.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.yaml"]


def test_a_failure_between_the_files_leaves_neither(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner import files

    mode = files._mode

    def full(path: str) -> int:
        if path.endswith(".yaml"):
            raise OSError(28, "No space left on device")
        return mode(path)

    monkeypatch.setattr(files, "_mode", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        tiny.write(tmp_path / "curve.csv")
    assert not list(tmp_path.iterdir())
