"""What plans and simulations are asked, with every default: the one place from which Python, CLI and docs take them.

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


FACTORS = ("rate", "cv", "prompt-tokens", "output-tokens", "slo")
MACHINE_FACTORS = ("prompt-time", "decode-time", "link-bandwidth", "price", "power")
"""Inputs that ``scale`` multiplies; those of machines also of one type, as in ``price:dgx-a100``."""

DURATION_S = 120.0
"""Time in which requests of a drawn set arrive, in s."""

WARM_UP = 0.1
"""Share of a drawn set that is not measured at its start, while an empty cluster fills."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The question that a plan answers. Names are checked when it is answered; the fields are the CLI's options.

    ``limits`` maps ``ttft_p99`` and the like to ``"2s"``, ``"60ms"`` or ``"6x"``; ``rate_rps`` None means the
    workload's own peak, ``cv`` None the workload's own; ``designs`` and ``machines`` empty mean all that there are.
    ``tensor_parallel`` has the degrees to consider; ``all`` are those at which a machine has latency curves and holds
    the model, each a choice of its own for every pool, ``largest`` the largest of them alone.
    ``backlog_requests`` ``within_s`` is in place of a rate: so many requests, all there at the start. ``deadline_s``
    is within which 99 % of the requests must end, a limit on E2E P99. ``against`` names the SLO whose plan is set
    beside this one, to show what its promise costs (None: ``splitwise`` where there is no limit but a deadline or a
    window; ``none`` for nothing); only ``api.plan`` looks at it.
    ``power_caps``, in percent of the GPUs' TDP (100 is without cap), consider each machine type at each of them.
    ``scale`` multiplies inputs for a what-if (``FACTORS``, ``MACHINE_FACTORS``); what slowdowns refer to stays.
    ``specs`` is a folder of one's own with machines, models, prices and curves beside the shipped ones.
    ``dtype`` and ``kv_dtype`` (None: the model's own) are ``bf16`` or ``fp8``; ``reference`` is what slowdowns are
    against, ``MACHINE`` or ``MACHINE:TP`` (None: DGX-A100 at 8). ``network`` puts machines on others than their own:
    ``NETWORK`` or ``MACHINE=NETWORK`` (``specs.network``). ``evidence`` is the worst kind of latency curves that are
    considered: ``measured``, ``derived`` or ``estimated`` (None: the best kind that any machine has).
    ``fast`` gives the formulas' answer, not simulated. Otherwise a cluster is judged on ``sets`` request sets of
    ``duration_s`` at a ``confidence`` (a trace as it is on itself), under a scheduling ``policy`` (None: the mixed pool
    of Splitwise for designs that split, mixed batching for those that do not); a failure by more than ``cut_margin``
    times a limit excludes smaller clusters unless ``exhaustive``.
    """

    workload: str = "coding"
    slo: str = "splitwise"
    model: str = "llama2-70b"
    rate_rps: float | None = None
    backlog_requests: int | None = None
    within_s: float | None = None
    deadline_s: float | None = None
    trace: str | None = None
    against: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    designs: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    tensor_parallel: tuple[int, ...] | Literal["largest", "all"] = "all"
    power_caps: tuple[float, ...] = ()
    evidence: str | None = None
    objective: Objective = "cost"
    max_cost_usd_per_h: float | None = None
    max_power_w: float | None = None
    max_machines: int | None = None
    stock: Mapping[str, int] = field(default_factory=dict)
    prices: str = "2026"
    headroom: float = 0.0
    scale: Mapping[str, float] = field(default_factory=dict)
    assumptions: str = "measured"
    dtype: str | None = None
    kv_dtype: str | None = None
    reference: str | None = None
    network: tuple[str, ...] = ()
    specs: str | None = None
    cv: float | None = None
    independent: bool = False
    solver: str = "HiGHS"
    seed: int = 0
    write_lp: str | None = None
    fast: bool = False
    sets: int = 5
    duration_s: float = DURATION_S
    confidence: float = 0.95
    policy: str | None = None
    exhaustive: bool = False
    time_limit_s: float | None = None
    cut_margin: float = 1.3


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What is simulated. Names are checked when it is; the fields are the CLI's options.

    The cluster: ``design`` with ``prompt_machines``, ``token_machines`` or ``mixed_machines``; or ``pools``, each
    ``ROLE:MACHINE=COUNT`` or ``ROLE:MACHINE:TP=COUNT``. ``failures`` are ``ROLE:NUMBER@30s-60s``, without an end for a
    machine that does not come back.

    The requests: ``workload`` at ``rate_rps`` (None: its own) for ``duration_s`` (None: 120 s); at ``rates_rps``, one
    a minute; ``requests`` in all with ``in_flight`` at any time; or ``trace`` as it is. ``sets`` of them are drawn,
    each from a stream of its own. ``warm_up`` (None: 0.1, and 0 for a trace) and ``cool_down`` are the shares of that
    time that are not measured.

    ``policy`` None is ``splitwise`` for prompt and token pools, ``mixed`` for mixed ones; its thresholds are
    those of ``simulation.policy.Policy`` where None. ``scale``, ``specs``,
    ``dtype``, ``kv_dtype``, ``reference`` and ``network`` are as in ``PlanOptions``.
    ``percentiles`` come beside 50, 90 and 99. ``repeat`` so many warm runs give the median of their time. ``records``
    and ``timeline`` are files to write.
    """

    workload: str = "coding"
    slo: str = "splitwise"
    model: str = "llama2-70b"
    rate_rps: float | None = None
    trace: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    design: str | None = None
    prompt_machines: int | None = None
    token_machines: int | None = None
    mixed_machines: int | None = None
    pools: tuple[str, ...] = ()
    tensor_parallel: int | None = None
    prompt_tensor_parallel: int | None = None
    token_tensor_parallel: int | None = None
    failures: tuple[str, ...] = ()
    duration_s: float | None = None
    sets: int = 1
    warm_up: float | None = None
    cool_down: float = 0.0
    cv: float | None = None
    independent: bool = False
    rates_rps: tuple[float, ...] = ()
    in_flight: int | None = None
    requests: int | None = None
    policy: str | None = None
    max_pending_tokens: int | None = None
    batch_tokens: int | None = None
    batch_requests: int | None = None
    max_preemptions: int | None = None
    transfer_retry_s: float | None = None
    share_links: bool | None = None
    percentiles: tuple[float, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    assumptions: str = "measured"
    dtype: str | None = None
    kv_dtype: str | None = None
    reference: str | None = None
    network: tuple[str, ...] = ()
    specs: str | None = None
    seed: int = 0
    repeat: int | None = None
    records: str | None = None
    timeline: str | None = None
