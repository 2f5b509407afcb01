"""The options of a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from provisioner.options import kinds
from provisioner.options.declaration import Group
from provisioner.options.defaults import (
    CONFIDENCE,
    CUT_MARGIN,
    DEFAULT_POLICY,
    DURATION_S,
    EVIDENCE,
    MOST_SETS,
    POLICIES,
    TOKEN_BUDGETS,
)
from provisioner.options.limits import LATENCY
from provisioner.options.shared import CLUSTER, METHOD, WORKLOAD, Question
from provisioner.specs.catalog import SHIPPED
from provisioner.specs.criteria import CRITERIA, ObjectiveName

BATCH: Final = Group("Batch work")
PROOF: Final = Group("Proof by simulation")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(Question):
    """The question that a plan answers."""

    QUESTION: ClassVar[str] = "plan"
    GROUPS: ClassVar[tuple[str, ...]] = (WORKLOAD, LATENCY, BATCH, CLUSTER, METHOD, PROOF)

    headroom: float = WORKLOAD.option(
        kinds.HEADROOM, "Share of the rate to plan for in addition: 0.2 or 20%. [default: 0]", default=0.0
    )
    deadline_s: float | None = BATCH.option(
        kinds.LONG_TIME,
        "Time within which 99 % of the requests end, such as 60s or 5min: a limit on E2E P99, alone unless "
        "others are given.",
    )
    backlog_requests: int | None = BATCH.option(
        kinds.COUNT,
        "Number of requests, such as 2M, that are all there at the start, in place of --rate; with --within and "
        "--slo batch.",
        flag="--backlog",
    )
    within_s: float | None = BATCH.option(kinds.LONG_TIME, "Time for the --backlog, such as 8h.")
    against: str | None = BATCH.option(
        kinds.TEXT.shown_as("SLO|none"),
        "SLO whose plan for the same load stands beside the answer, to show the cost of its promise. [default: "
        "splitwise with --slo batch and no limit but --deadline, else none]",
    )
    designs: tuple[str, ...] = CLUSTER.option(
        kinds.DESIGN.several(),
        "Consider this design only, such as splitwise-ha or baseline-h100. [default: all that the machine types allow]",
    )
    machines: tuple[str, ...] = CLUSTER.option(
        kinds.TEXT.several().once(),
        "Consider this machine type only, an instance or a whole machine (see provision machines). [default: all whole "
        "ones with latency curves of the model]",
    )
    instances: bool = CLUSTER.switch(
        "Consider also the instances with 1, 2 or 4 GPUs that clouds sell (see provision machines), beside whole "
        "machines."
    )
    tensor_parallel: tuple[int, ...] | Literal["largest", "all"] = CLUSTER.fixing(
        kinds.DEGREES,
        "Tensor parallelism to consider, in GPUs of one replica, for every pool apart: all at which a machine "
        "type has latency curves and holds the model, the largest of them, or these.",
        default="all",
    )
    batch_tokens: tuple[int, ...] | None = CLUSTER.option(
        kinds.CHOICES_OF_TOKENS,
        "Most tokens of an iteration to consider for each pool that computes prompts, with a --policy of engines: all "
        f"({', '.join(map(str, TOKEN_BUDGETS))}), the engine's own, or these. [default: all; own if --engine sets it]",
    )
    power_caps: tuple[float, ...] = CLUSTER.option(
        kinds.positive("% of the TDP", "PERCENT").listed(),
        "Consider every machine type with its GPUs' power limited to each of these shares of their TDP; 100 is "
        "without limit. What a cap does to both phases is assumed (docs/reference/hardware.md). [default: machine "
        "types as they are]",
    )
    evidence: str | None = CLUSTER.option(
        kinds.name_of("kind of evidence", EVIDENCE),
        "Worst kind of latency curves that machine types are considered with: measured with this model, derived from "
        "kernels measured on the GPU, or estimated from other GPUs. [default: the best kind that any has]",
    )
    stock: Mapping[str, int] = CLUSTER.option(
        kinds.STOCK, "Machines of a type that can be had at most, such as dgx-h100=20. [default: no limit]"
    )
    objective: ObjectiveName = CLUSTER.fixing(  # noqa: RUF009
        kinds.name_of("objective", tuple(CRITERIA)),
        "Quantity to make smallest; throughput makes the rate largest within the limits on cost, power or machines.",
        default="cost",
    )
    max_cost_usd_per_h: float | None = CLUSTER.option(
        kinds.positive("$/h", "COST", 1e9), "Largest cost an hour, in the currency of the prices. [default: no limit]"
    )
    max_power_w: float | None = CLUSTER.option(
        kinds.POWER, "Largest provisioned power, in W or with a unit: 400kW. [default: no limit]"
    )
    max_machines: int | None = CLUSTER.option(kinds.MACHINES, "Largest number of machines. [default: no limit]")
    prices: str = CLUSTER.fixing(
        kinds.TEXT.shown_as("|".join((*SHIPPED.price_lists, "FILE"))),
        "List of cost an hour, in its currency, and provisioned power per machine: a shipped one (provision machines "
        "shows them), one of --specs, or a YAML file.",
        default="2026",
    )
    solver: str = METHOD.fixing(kinds.TEXT, "Solver of the integer program, by PuLP's name.", default="HiGHS")
    write_lp: str | None = METHOD.option(kinds.FILE, "Write the integer program in LP format.")
    fast: bool = PROOF.switch("Answer by the queueing formulas alone, not simulated.")
    sets: int = PROOF.fixing(
        kinds.whole("request sets", most=MOST_SETS),
        f"Independent request sets on which a cluster is judged (1 to {MOST_SETS}). A --trace is judged on itself.",
        flag="--seeds",
        default=5,
    )
    duration_s: float = PROOF.fixing(
        kinds.TIME,
        "Time in which the requests of a set arrive, such as 120s; its first tenth is a warm-up. A set takes longer "
        f"where a limit needs more requests. [default: {DURATION_S:g}s]",
        default=DURATION_S,
    )
    confidence: float = PROOF.fixing(
        kinds.share().checked(lambda level: 0.5 < level < 1.0, "above 0.5 and below 1"),
        "Confidence of the upper bound over the request sets that has to be within a limit.",
        default=CONFIDENCE,
    )
    policy: str | None = PROOF.option(
        kinds.name_of("policy", POLICIES).shown_as("NAME"),
        "Scheduling: as engines run pools, strict, or deflect (short prompts are computed where they are decoded), "
        "beside chunked prefill for colocated designs; the Splitwise paper's, splitwise (machines lent between the "
        "pools) or split (none lent), beside mixed batching. The name of either side stands for both. [default: "
        f"{DEFAULT_POLICY['measured']}; {DEFAULT_POLICY['splitwise-sim']} with splitwise-sim]",
    )
    survive: int = PROOF.option(
        kinds.whole("machines", minimum=0, most=8),
        "Machines in total that may be lost, of any pools, with every limit still met: 1, 2. [default: 0]",
        default=0,
    )
    robust: bool = PROOF.switch(
        "Plan for times that are longer by the stated errors of the latency curves, with the plan for the curves as "
        "they are beside it."
    )
    exhaustive: bool = PROOF.switch("Simulate every better cluster: a failure excludes no other cluster.")
    time_limit_s: float | None = PROOF.option(
        kinds.TIME,
        "Time from the start of the program to the answer, such as 10s: then the best so far, with its bound and gap. "
        "[default: no limit]",
    )
    cut_margin: float = PROOF.fixing(
        kinds.NON_NEGATIVE.checked(lambda margin: 1.0 < margin <= 100.0, "above 1, to 100 times").shown_as("FACTOR"),
        "Multiple of a limit beyond which a cluster excludes all smaller ones of its design.",
        default=CUT_MARGIN,
    )
