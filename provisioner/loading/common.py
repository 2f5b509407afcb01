"""What plans and simulations load alike: limits, remarks on model and workload, versions."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import LIMIT_NAMES
from provisioner.specs.slo import LatencyLimit, parse_limit

if TYPE_CHECKING:
    from provisioner.perf.assumptions import ReplicaPerf
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.workload import Workload

Options = TypeVar("Options")


def options_of(kind: type[Options], fields: Mapping[str, Any], several: Mapping[str, type]) -> Options:
    """Options from keywords. ``several`` has the fields that take any number of a type: one alone is taken for several.

    ``UnknownNameError`` names the nearest option.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given = dict(fields)
    for name in given:
        if name not in known:
            raise UnknownNameError("option", name, known)
    for name in set(several) & set(given):
        value = given[name]
        if isinstance(value, str) or (several[name] is not str and isinstance(value, int | float)):
            given[name] = (value,)
        elif isinstance(value, Iterable):
            given[name] = tuple(value)
        else:
            raise InputError(f"{name}: must be a name or several, got {value!r}")
    return kind(**given)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages and of Python."""
    return {**{name: _version(name) for name in packages}, "python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def latency_limits(limits: Mapping[str, str]) -> tuple[LatencyLimit, ...]:
    """Limits from their names and texts, such as ``ttft_p99`` and ``2s``."""
    for name in limits:
        if name not in LIMIT_NAMES:
            raise UnknownNameError("limit", name, LIMIT_NAMES)
    parsed = []
    for name, text in limits.items():
        metric, percentile = name.split("_")
        parsed.append(parse_limit(metric, percentile, text, f"--{metric}-{percentile}"))  # type: ignore[arg-type]
    return tuple(parsed)


def burstier(workload: Workload, cv: float, done: str = "planned") -> tuple[str, ...]:
    """What to say where the trace behind a workload was far burstier than it is planned for (``done``)."""
    measured = None if workload.arrivals is None else workload.arrivals.cv
    if measured is None or measured <= 1.5 * max(cv, 1.0):
        return ()
    how = f"{done} " + ("as Poisson, CV 1" if cv == 1.0 else f"with CV {cv:g}")
    more = "burstier than planned for" if done == "planned" else "burstier than the requests here"
    return (
        f"the trace behind workload {workload.name} is {more}: its inter-arrival CV is {measured:.3g}, {how} (change "
        "it with --cv)",
    )


def remarks(
    model: ModelArchitecture, workload: Workload, replicas: Mapping[str, ReplicaPerf], done: str = "planned"
) -> tuple[str, ...]:
    """What a reader of the result should know about its data; ``done`` is what was done with them."""
    notes = []
    context = workload.prompt_tokens + workload.output_tokens
    longer = float(workload.weight[context > model.trained_context_tokens].sum())
    if longer > 0.0:
        notes.append(
            f"{longer:.1%} of the requests are longer than the {model.trained_context_tokens:,} tokens that "
            f"{model.title} was trained for; they are {done} as if it served them"
        )
    if workload.context_share_reused is not None and workload.context_share_reused > 0.01:
        notes.append(
            f"{workload.context_share_reused:.0%} of the prompt tokens repeat a prefix seen before; prefix caching is "
            "not modelled, and would shorten the prompt phase"
        )
    for name, perf in replicas.items():
        if "assumed" in perf.curve.provenance:
            notes.append(f"{name}: part of its latency curve is assumed by its source, not measured")
    return tuple(notes)
