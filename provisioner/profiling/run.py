"""Profiling of a model's shape on the local device, iteration by iteration."""

import gc
import platform
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from provisioner.errors import InputError, Interrupted
from provisioner.options import ProfileOptions, declared
from provisioner.perf.points import CurvePoint
from provisioner.profiling import gpu
from provisioner.profiling.grid import Grid, Work, curve_possible
from provisioner.profiling.layers import Decoder, Place, Window
from provisioner.profiling.result import LeftOut, Profile
from provisioner.profiling.room import Plan, free_bytes, plan
from provisioner.profiling.shape import Shard, shape_of
from provisioner.profiling.timing import Timing, time_step
from provisioner.profiling.torch_import import import_torch, is_out_of_memory
from provisioner.progress import Step
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.units import format_bytes, format_seconds, parse_positive, parse_whole
from provisioner.spelling import spelled
from provisioner.version import version_of

DTYPES: Final = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""PyTorch's number types by name; weights, activations and KV cache have the same."""

ELEMENT_BYTES: Final = {"bf16": 2, "fp16": 2, "fp32": 4}  # bytes of one number of each type
DEFAULT_REPEATS: Final[int] = declared(ProfileOptions)["repeats"].default
DEFAULT_WARM_UP: Final[int] = declared(ProfileOptions)["warm_up"].default

Record = dict[str, Any]  # result of one point: its times in s and their method, or the reason why it was left out


class PointJournal(Protocol):
    """Store of finished points while others are timed, such as ``studies.journal.Journal``."""

    done: dict[str, Any]

    def add(self, key: str, record: Any) -> None:
        """Store one more record."""


_Job = tuple[Decoder, Callable[[Callable[[], object]], Timing]]
"""The decoder of a profile, and the function that times a step."""


def question_of(
    model: ModelArchitecture,
    machine_name: str,
    tensor_parallel: int = 1,
    device: str = "cuda",
    dtype: str | None = None,
    repeats: int = DEFAULT_REPEATS,
    warm_up: int = DEFAULT_WARM_UP,
    seed: int = 0,
) -> dict[str, Any]:
    """Identity of a profile for its journal, without the grid, so that a profile with more points can resume it."""
    torch = import_torch()
    made = _device(device)
    name = torch.cuda.get_device_name(made) if made.type == "cuda" else platform.processor()
    return {
        "study": "profile",
        "shape": shape_of(model),
        "machine": machine_name,
        "tensor_parallel": tensor_parallel,
        "device": f"{made.type}: {name}",
        "dtype": _dtype(dtype, made),
        "torch": str(torch.__version__),
        "repeats": repeats,
        "warm_up": warm_up,
        "seed": seed,
    }


def profile(
    model: ModelArchitecture,
    machine_name: str,
    tensor_parallel: int = 1,
    grid: Grid | None = None,
    device: str = "cuda",
    dtype: str | None = None,
    repeats: int = DEFAULT_REPEATS,
    warm_up: int = DEFAULT_WARM_UP,
    seed: int = 0,
    memory_bytes: float | None = None,
    journal: PointJournal | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Profile:
    """Time prompt and decode iterations of a model's shape with random weights, for a latency curve.

    With ``tensor_parallel`` above 1 one GPU's share is timed without the all-reduces, and points are ``assumed``. The
    whole model is timed if it leaves room for a curve in ``memory_bytes`` (by default the free memory of the device),
    else as many layers as fit, scaled to all; work that does not fit is left out. ``dtype`` is by default bf16 on a GPU
    and fp32 on a CPU. Raises ``InputError`` without PyTorch or the device, or if too little fits for a curve;
    ``Interrupted`` has the number of points done.
    """
    torch = import_torch()
    shard = Shard.of(model, tensor_parallel)
    grid = grid or Grid()
    repeats, warm_up = parse_whole(repeats, "repeats"), parse_whole(warm_up, "warm_up", minimum=0)
    where = _device(device)
    type_name = _dtype(dtype, where)
    place = Place.of(str(where), DTYPES[type_name], seed)
    memory = free_bytes(where) if memory_bytes is None else parse_positive(memory_bytes, "memory_bytes", "bytes")
    planned = plan(shard, grid, memory_bytes=memory, element_bytes=place.dtype.itemsize)
    uuid = gpu.uuid_of(where.index) if where.type == "cuda" else None
    facts = gpu.query(gpu.FACTS, uuid) if where.type == "cuda" else {}
    states: list[gpu.Values] = []

    def under_load() -> None:
        states.append(gpu.query(gpu.STATE, uuid))

    began = datetime.now(UTC)
    done = {} if journal is None else journal.done
    records = {work.label: done[_key(work, planned)] for work in planned.works if _key(work, planned) in done}
    earlier = len(records)

    def job() -> _Job:
        whole = planned.layers == model.layers
        held = "the whole model" if whole else f"{planned.layers} of {model.layers} layers"
        progress(Step(f"making random weights: {held}", earlier, len(planned.works)))
        try:
            decoder = Decoder.random(shard, place, planned.layers, grid.longest_tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            planned_with = f"{format_bytes(memory)} were planned with, and memory ran out over {held}"
            raise InputError(f"memory_bytes: {planned_with}; give less") from None
        return decoder, lambda step: time_step(step, place.device, warm_up, repeats, under_load)

    with torch.inference_mode(), torch.cuda.device(where) if where.type == "cuda" else nullcontext():
        _time_all(job, planned, records, journal, progress)
    timed = [work for work in planned.works if "latency_s" in records[work.label]]
    failed = [(work, records[work.label]["left_out"]) for work in planned.works if work not in timed]
    left_out = tuple(LeftOut(work.label, reason) for work, reason in (*planned.left_out, *failed))
    if not curve_possible(timed, grid.context_tokens):
        reasons = "; ".join(sorted({each.reason for each in left_out}))
        raise InputError(f"model {model.name}: too few points could be timed for a curve: {reasons}")
    points = [
        CurvePoint(
            phase=work.phase,
            prompt_tokens=work.tokens,
            batch=work.batch,
            context_tokens=0 if work.phase == "prompt" else work.held_tokens,
            repeats=repeats,
            provenance="measured" if shard.tensor_parallel == 1 else "assumed",  # no time for the all-reduces
            **{name: records[work.label][name] for name in ("latency_s", "min_s", "max_s")},
        )
        for work in timed
    ]
    without = tuple(w.label for w in timed if not records[w.label]["graph"]) if where.type == "cuda" else ()
    return Profile(
        shape=model,
        machine=machine_name,
        tensor_parallel=shard.tensor_parallel,
        points=tuple(points),
        left_out=left_out,
        without_graph=without,
        layers_timed=planned.layers,
        grid=grid,
        dtype=type_name,
        repeats=repeats,
        warm_up=warm_up,
        seed=seed,
        environment=_environment(where, memory, facts, states, began) | {"points_of_earlier_sessions": earlier},
    )


def _device(name: str) -> Any:
    """Device of a name, with its number on a GPU; ``InputError`` if there is none."""
    torch, device = import_torch(), None
    with suppress(RuntimeError, TypeError):
        device = torch.device(name)
    if device is None or device.type not in ("cuda", "cpu"):
        raise InputError(f"device: must be cuda, cuda:N or cpu, got {name!r}")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise InputError("device: PyTorch sees no GPU here: run this on the machine with the GPU, or give cpu")
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: must be below cuda:{torch.cuda.device_count()}, got {name!r}")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


def _dtype(name: str | None, device: Any) -> str:
    if name is None:
        name = "fp32" if device.type == "cpu" else "bf16"
    if name == "fp8":
        raise InputError("dtype: fp8 is not built here, and bf16 times say nothing of it: give bf16, fp16 or fp32")
    if name not in DTYPES:
        raise InputError(f"dtype: must be {', '.join(DTYPES)}, got {name!r}")
    torch = import_torch()
    has_bf16 = device.type == "cpu" or torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8
    if name == "bf16" and not has_bf16:
        raise InputError("dtype: this GPU computes no bf16: give fp16")
    return name


def _time_all(
    make_job: Callable[[], _Job],
    planned: Plan,
    records: dict[str, Record],
    journal: PointJournal | None,
    progress: Callable[[str], None],
) -> None:
    """Add the records of all other planned work; an interrupt raises ``Interrupted`` with the number of points done."""
    works = planned.works
    todo = [work for work in works if work.label not in records]
    try:
        if todo:
            job = make_job()
        for work in todo:
            record = _record(job, work)
            if journal is not None:
                journal.add(_key(work, planned), record)
            records[work.label] = record
            took = format_seconds(record["latency_s"]) if "latency_s" in record else record["left_out"]
            progress(Step(f"{work.label}: {took} ({len(records)} of {len(works)})", len(records), len(works)))
    except KeyboardInterrupt:
        resumed = journal is not None and records
        where = f"kept in the journal, {spelled('resume')} goes on from there" if resumed else "nothing written"
        raise Interrupted(f"{len(records)} of {len(works)} points timed", where) from None


def _key(work: Work, planned: Plan) -> str:
    """Key of a point in a journal; it contains the layers timed."""
    return f"{work.label} through {planned.layers} layers"


def _record(job: _Job, work: Work) -> Record:
    """Record of one point: its times, or the reason why it was left out if memory ran out."""
    torch = import_torch()
    try:
        timing = _time_work(job, work)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"left_out": f"the {'GPU' if job[0].place.device.type == 'cuda' else 'machine'} ran out of memory"}
    finally:
        gc.collect()  # a captured graph and its memory go with it
        torch.cuda.empty_cache()
    return {"latency_s": timing.median_s, "min_s": timing.min_s, "max_s": timing.max_s, "graph": timing.graph}


def _time_work(job: _Job, work: Work) -> Timing:
    """Time of one iteration of all layers: timed at once, or scaled from the layers held, plus the ends."""
    torch = import_torch()
    decoder, timed = job
    shard, place = decoder.shard, decoder.place
    start, tokens = (0, work.tokens) if work.phase == "prompt" else (work.tokens - 1, 1)
    window = Window.of(shard, place, start, tokens)
    caches = decoder.caches(work.batch, work.tokens)
    ids = torch.randint(shard.vocab_size, (work.batch, tokens), device=place.device, generator=place.generator)

    if len(decoder.layers) == shard.shape.layers:
        return timed(lambda: decoder.iterate(ids, caches, window).argmax(-1))
    hidden = decoder.embed(ids, window)
    of_layers = timed(lambda: decoder.through_layers(hidden, caches, window))
    of_ends = timed(lambda: decoder.logits(decoder.embed(ids, window)).argmax(-1))
    return of_layers.scaled(shard.shape.layers / len(decoder.layers), of_ends)


def _environment(
    device: Any, memory_bytes: float, facts: gpu.Values, states: list[gpu.Values], began: datetime
) -> dict[str, Any]:
    """Device, driver, clocks under load and versions."""
    torch = import_torch()
    cuda = device.type == "cuda"
    return {
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "device_memory_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 3) if cuda else None,
        "memory_planned_with_gib": round(memory_bytes / 2**30, 3),
        "gpu": facts,
        "under_load": gpu.ranges(states),
        "cpu_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or getattr(torch.version, "hip", None),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "provisioner": version_of(),
        "system": platform.platform(),
    }
