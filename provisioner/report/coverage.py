"""Coverage of models and machines by curves, as reports: kind of curve, fit of the model, and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

from provisioner.perf.operators import gpu_limits
from provisioner.perf.provenance import SERVED_RUNS
from provisioner.perf.summary import (
    NUMBER_TYPES,
    Coverage,
    CurveError,
    MachineCurves,
    coverage,
    machine_curves,
    not_covered,
)
from provisioner.report.document import Block, Column, Table, grouped, listing, notes, table
from provisioner.report.numbers import per_cent, whole
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture, NumberType

SHIPPED: Final = with_own(None)
"""The catalog without specs of one's own."""


def own_names(known: Catalog, part: Literal["machines", "models"]) -> frozenset[str]:
    """Names of the machines or models in a folder of own specs."""
    own = () if known.own is None else (Path(known.own) / part).glob("*.yaml")
    return frozenset(path.stem for path in own)


def marked(name: str, own: bool) -> str:
    """A name, marked if it is of own specs."""
    return f"{name} *" if own else name


def marking(known: Catalog, part: Literal["machines", "models"]) -> Callable[[str], str]:
    """Return the function that marks those names of machines or models that are of own specs."""
    own = own_names(known, part)
    return lambda name: marked(name, name in own)


def own_note(known: Catalog) -> str:
    """The meaning of the mark; empty without own specs."""
    return "" if known.own is None else f"*: of one's own, from {known.own}."


def all_coverage(models: Iterable[ModelArchitecture], machines: Sequence[Machine], known: Catalog) -> list[Coverage]:
    """Curves of models on machines."""
    return [row for model in models for machine in machines for row in coverage(model, machine, known)]


def coverage_blocks(
    title: str, models: Sequence[ModelArchitecture], machines: Sequence[Machine], known: Catalog
) -> list[Block]:
    """A table of the curves of one model on machines, or of models on one machine, and notes on its numbers."""
    rows = all_coverage(models, machines, known)
    subject: Literal["machine", "model"] = "machine" if len(models) == 1 else "model"
    mark = marking(known, "machines" if subject == "machine" else "models")
    lines = grouped(((mark(getattr(row, subject)), row.dtype, marked(row.evidence, row.own)), row) for row in rows)
    degrees = sorted({row.tensor_parallel for row in rows})
    columns = (
        Column(subject),
        Column("type"),
        Column("curves"),
        *(Column(f"TP {degree}", True) for degree in degrees),
        Column("prompt, %", True),
        Column("decode, %", True),
    )
    cells = []
    for key, of in lines.items():
        room = {row.tensor_parallel: _room(row) for row in of}
        cells.append((*key, *(room.get(degree, "") for degree in degrees), *_spans(row.error for row in of)))
    return [table(title, columns, cells), *notes("", _legend(rows, models, machines, known))]


def _room(row: Coverage) -> str:
    return "no room" if row.kv_capacity_tokens is None else whole(row.kv_capacity_tokens / 1e3)


def _spans(errors: Iterable[CurveError | None]) -> tuple[str, str]:
    known = [error for error in errors if error is not None]
    return span([error.prompt for error in known]), span([error.decode for error in known])


def span(errors: Sequence[tuple[float, float]]) -> str:
    """Fractions from the least to the most, in per cent; empty where none is known.

    >>> span([(0.243, 0.243)]), span([(0.0434, 0.114), (0.06, 0.2)]), span([])
    ('24.3', '4 to 20', '')
    """
    if not errors:
        return ""
    least, most = min(low for low, _ in errors), max(high for _, high in errors)
    alike = round(100 * least) == round(100 * most)
    return per_cent((least + most) / 2) if alike else f"{100 * least:.0f} to {100 * most:.0f}"


def _legend(
    rows: Sequence[Coverage], models: Sequence[ModelArchitecture], machines: Sequence[Machine], known: Catalog
) -> Iterable[str]:
    cache = "/".join(sorted({model.kv_dtype for model in models}))
    yield (
        f"Below each TP: thousands of tokens of KV cache (in {cache}) that one replica has room for; no room where the "
        "weights leave less than one full context."
    )
    yield from error_notes({row.evidence for row in rows}, {row.error is None for row in rows} == {False})
    reasons = grouped(
        (why.removeprefix(f"{machine.name} "), machine.name)
        for machine in machines
        for why in not_covered(models[0], machine).values()
    )
    for why, names in reasons.items():
        yield f"None derived or estimated where a machine {why}: {', '.join(dict.fromkeys(names))}."
    if any(machine.power_cap < 1 for machine in machines):
        yield "With a power cap times are longer by what is assumed of it; no error here counts that."
    yield own_note(known)


def error_notes(kinds: Iterable[str], known: bool = True) -> list[str]:
    """The meaning of the errors of each kind of curve."""
    meanings = {
        "measured": "measured: mean errors of prompt and decode times at points left out"
        + ("." if known else "; blank where there are too few points to leave one out."),
        "derived": (
            f"derived: mean errors of TTFT and TPOT in {SERVED_RUNS} runs served by vLLM, Llama-3.1-70B on H200 and "
            "Qwen3-32B on H100; other models and GPUs were not compared (docs/explanation/validation.md)."
        ),
        "estimated": (
            "estimated: median errors of prompt and decode iterations against derived ones, from the least to the most "
            "over GPUs with kernels, each estimated from all others (not from one that is like it); those of derived "
            "curves come on top. Over PCIe at TP 1 only."
        ),
    }
    return [text for kind, text in meanings.items() if kind in kinds]


def machines_table(machines: Iterable[Machine], known: Catalog) -> Table:
    """The curves of each machine for models that were not measured on it, with errors of prompt / decode."""
    mark = marking(known, "machines")
    return listing(
        "Where a model was not measured",
        [machine_curves(machine) for machine in machines],
        (Column("machine"), lambda curves: mark(curves.machine)),
        (Column("curves"), lambda curves: curves.evidence),
        (Column("kernels of"), _kernels),
        *((Column(f"{dtype}, %", True), partial(_errors, dtype=dtype)) for dtype in NUMBER_TYPES),
    )


def _errors(curves: MachineCurves, dtype: NumberType) -> str:
    return " / ".join(filter(None, _spans([curves.errors.get(dtype)])))


def _kernels(curves: MachineCurves) -> str:
    if len(curves.kernels) == len(gpu_limits()):
        return "all GPUs"
    like = "like " if curves.evidence == "estimated" else ""
    return like + ", ".join(curves.kernels)


def other_curves(machine: Machine) -> str:
    """A sentence on the curves of a machine for models that were not measured on it, and on their errors."""
    curves = machine_curves(machine)
    first, second = ("TTFT", "TPOT") if curves.evidence == "derived" else ("prompt", "decode")
    types = grouped((_spans([error]), dtype) for dtype, error in curves.errors.items())
    errors = "; ".join(f"in {' and '.join(of)} {first} {p} %, {second} {d} % off" for (p, d), of in types.items())
    capped = "" if machine.power_cap == 1 else "; slowed down as is assumed of its power cap"
    return f"{curves.evidence} from kernels of {_kernels(curves).removeprefix('like ')}: {errors}{capped}"


def by_evidence(machines: Iterable[Machine]) -> dict[str, list[str]]:
    """Names of machines by the kind of curves that they get for models that were not measured on them."""
    names = grouped((curves.evidence, curves.machine) for curves in map(machine_curves, machines))
    return dict(sorted(names.items()))
