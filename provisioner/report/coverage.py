"""Coverage of models and machines by curves, as reports: kind of curve, fit of the model, and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

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
from provisioner.report.document import Block, Column, Notes, Table, table
from provisioner.report.numbers import per_cent, whole
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture

OWN_MARK = " *"


def own_names(own: Catalog | None, part: Literal["machines", "models"]) -> frozenset[str]:
    """Names of the machines or models in a folder of own specs."""
    if own is None or own.own is None:
        return frozenset()
    return frozenset(path.stem for path in (Path(own.own) / part).glob("*.yaml"))


def marked(name: str, mine: bool) -> str:
    """A name, marked if it is of own specs."""
    return name + OWN_MARK if mine else name


def own_note(own: Catalog | None) -> str:
    """The meaning of the mark; empty without own specs."""
    return "" if own is None or own.own is None else f"*: of one's own, from {own.own}."


def all_coverage(
    models: Iterable[ModelArchitecture], machines: Iterable[Machine], own: Catalog | None = None
) -> list[Coverage]:
    """Curves of models on machines."""
    on = tuple(machines)
    return [row for model in models for machine in on for row in coverage(model, machine, own)]


def coverage_blocks(
    title: str, models: Sequence[ModelArchitecture], machines: Sequence[Machine], own: Catalog | None = None
) -> list[Block]:
    """A table of the curves of one model on machines, or of models on one machine, and notes on its numbers."""
    rows = all_coverage(models, machines, own)
    degrees = sorted({row.tensor_parallel for row in rows})
    one_model = len(models) == 1
    mine = own_names(own, "machines" if one_model else "models")
    lines: dict[tuple[str, ...], list[Coverage]] = {}
    for row in rows:
        name = row.machine if one_model else row.model
        key = (marked(name, name in mine), row.dtype, marked(row.evidence, row.own))
        lines.setdefault(key, []).append(row)
    columns = (
        Column("machine" if one_model else "model"),
        Column("type"),
        Column("curves"),
        *(Column(f"TP {degree}", True) for degree in degrees),
        Column("prompt, %", True),
        Column("decode, %", True),
    )
    cells = [
        (*key, *(_room(of, degree) for degree in degrees), *_spans([row.error for row in of]))
        for key, of in lines.items()
    ]
    return [table(title, columns, cells), Notes("", tuple(_legend(rows, models, machines, own)))]


def _room(rows: Sequence[Coverage], degree: int) -> str:
    for row in rows:
        if row.tensor_parallel == degree:
            return "no room" if row.kv_capacity_tokens is None else whole(row.kv_capacity_tokens / 1e3)
    return ""


def _spans(errors: Sequence[CurveError | None]) -> tuple[str, str]:
    found = [error for error in errors if error is not None]
    return (span([error.prompt for error in found]), span([error.decode for error in found]))


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
    rows: Sequence[Coverage], models: Sequence[ModelArchitecture], machines: Sequence[Machine], own: Catalog | None
) -> Iterable[str]:
    cache = "/".join(sorted({model.kv_dtype for model in models}))
    yield (
        f"Below each TP: thousands of tokens of KV cache (in {cache}) that one replica has room for; no room where the "
        "weights leave less than one full context."
    )
    yield from error_notes({row.evidence for row in rows}, {row.error is None for row in rows} == {False})
    yield from _missing(models, machines)
    if any(machine.power_cap < 1 for machine in machines):
        yield "With a power cap times are longer by what is assumed of it; no error here counts that."
    if note := own_note(own):
        yield note


def error_notes(kinds: Iterable[str], known: bool = True) -> list[str]:
    """The meaning of the errors of each kind of curve."""
    shown = set(kinds)
    notes = {
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
    return [text for kind, text in notes.items() if kind in shown]


def _missing(models: Sequence[ModelArchitecture], machines: Sequence[Machine]) -> Iterable[str]:
    """Number types without derived curves, by reason."""
    reasons: dict[str, dict[str, None]] = {}
    for machine in machines:
        for why in not_covered(models[0], machine).values() if models else ():
            reasons.setdefault(why.removeprefix(f"{machine.name} "), {})[machine.name] = None
    for why, names in reasons.items():
        yield f"None derived or estimated where a machine {why}: {', '.join(names)}."


def machines_table(machines: Iterable[Machine], own: Catalog | None = None) -> Table:
    """The curves of each machine for models that were not measured on it, with errors of prompt / decode."""
    mine = own_names(own, "machines")
    columns = (
        Column("machine"),
        Column("curves"),
        Column("kernels of"),
        *(Column(f"{dtype}, %", True) for dtype in NUMBER_TYPES),
    )
    rows = []
    for machine in machines:
        found = machine_curves(machine)
        errors = (found.errors.get(dtype) for dtype in NUMBER_TYPES)
        cells = ("" if error is None else " / ".join(_spans([error])) for error in errors)
        rows.append((marked(machine.name, machine.name in mine), found.evidence, _kernels(found), *cells))
    return table("Where a model was not measured", columns, rows)


def _kernels(found: MachineCurves) -> str:
    if len(found.kernels) == len(gpu_limits()):
        return "all GPUs"
    like = "like " if found.evidence == "estimated" else ""
    return like + ", ".join(found.kernels)


def other_curves(machine: Machine) -> str:
    """A sentence on the curves of a machine for models that were not measured on it, and on their errors."""
    found = machine_curves(machine)
    first, second = ("TTFT", "TPOT") if found.evidence == "derived" else ("prompt", "decode")
    types: dict[tuple[str, str], list[str]] = {}
    for dtype, error in found.errors.items():
        types.setdefault(_spans([error]), []).append(dtype)
    told = "; ".join(f"in {' and '.join(of)} {first} {p} %, {second} {d} % off" for (p, d), of in types.items())
    capped = "" if machine.power_cap == 1 else "; slowed down as is assumed of its power cap"
    return f"{found.evidence} from kernels of {_kernels(found).removeprefix('like ')}: {told}{capped}"


def by_evidence(machines: Iterable[Machine]) -> Mapping[str, list[Machine]]:
    """Machines by the kind of curves that they get for models that were not measured on them."""
    found: dict[str, list[Machine]] = {}
    for machine in machines:
        found.setdefault(machine_curves(machine).evidence, []).append(machine)
    return dict(sorted(found.items()))


def known_of(own: Catalog | None) -> Catalog:
    """The shipped specs, with own ones."""
    return own or with_own(None)
