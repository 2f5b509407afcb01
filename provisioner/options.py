"""What a plan can be asked for, with every default: the one place from which Python, the CLI and the docs take them.

Imports the standard library only, so that the command line can show its help without loading the planner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Objective = Literal["cost", "power", "machines", "throughput"]
OBJECTIVES: tuple[Objective, ...] = ("cost", "power", "machines", "throughput")
ASSUMPTIONS = ("measured", "splitwise-sim")
LIMIT_NAMES = tuple(f"{metric}_{p}" for metric in ("ttft", "tbt", "e2e") for p in ("p50", "p90", "p99"))


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The question that a plan answers. Names are checked when it is answered; the fields are the CLI's options.

    ``limits`` maps ``ttft_p99`` and the like to ``"2s"``, ``"60ms"`` or ``"6x"``; ``rate_rps`` None means the
    workload's own peak, ``cv`` None the workload's own; ``designs`` and ``machines`` empty mean all that there are.
    """

    workload: str = "coding"
    slo: str = "splitwise"
    model: str = "llama2-70b"
    rate_rps: float | None = None
    trace: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    designs: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    objective: Objective = "cost"
    max_cost_usd_per_h: float | None = None
    max_power_w: float | None = None
    max_machines: int | None = None
    stock: Mapping[str, int] = field(default_factory=dict)
    prices: str = "2026"
    headroom: float = 0.0
    assumptions: str = "measured"
    cv: float | None = None
    independent: bool = False
    solver: str = "HiGHS"
    seed: int = 0
    write_lp: str | None = None
