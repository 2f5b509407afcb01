"""The options of a simulation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from provisioner.options import defaults, kinds
from provisioner.options.declaration import Group
from provisioner.options.limits import LATENCY
from provisioner.options.shared import CLUSTER, METHOD, OUTPUT, WORKLOAD, Question
from provisioner.specs.units import format_seconds

POLICY: Final = Group("Policy")

_ENGINES, _PAPERS = (defaults.policies(defaults.DEFAULT_POLICY[each]) for each in ("measured", "splitwise-sim"))
_LINKS: Final = kinds.word_of("value of {option}", {"shared": True, "apart": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions(Question):
    """The question that a simulation answers."""

    QUESTION: ClassVar[str] = "simulation"
    GROUPS: ClassVar[tuple[str, ...]] = (WORKLOAD, CLUSTER, LATENCY, POLICY, METHOD, OUTPUT)

    rates_rps: tuple[float, ...] = WORKLOAD.option(
        kinds.RATES,
        "Requests/s minute by minute, in place of --rate and --duration: 30,50,70, or a file with one in a line.",
    )
    duration_s: float | None = WORKLOAD.option(
        kinds.TIME.varied_as("duration"),
        "Time in which requests arrive, in s or with a unit: 120, 10min. All of them are served. "
        f"[default: {format_seconds(defaults.DURATION_S)}, longer for few arrivals in bursts]",
    )
    sets: int = WORKLOAD.fixing(
        kinds.whole("request sets", most=1000).varied_as("request sets"),
        "Independent request sets; results are means over them, with intervals.",
        flag="--seeds",
        default=1,
    )
    in_flight: int | None = WORKLOAD.option(
        kinds.whole("requests").varied_as("requests in flight"),
        "Closed loop: number of requests in the cluster at any time, the next one when one completes.",
    )
    requests: int | None = WORKLOAD.option(
        kinds.whole("requests", most=1_000_000_000).varied_as("requests in all"),
        "Total number of requests of the closed loop. [default: 20 times --in-flight, 2,000 at least]",
    )
    warm_up: float | None = WORKLOAD.option(
        kinds.share("share of the time").varied_as("warm-up"),
        "Share of the time at its start whose arrivals are not measured: 0.1 or 10%. "
        f"[default: {defaults.WARM_UP:g}, of a trace 0]",
    )
    cool_down: float = WORKLOAD.option(
        kinds.share("share of the time").varied_as("cool-down"),
        "Share of the time at its end whose arrivals are not measured. [default: 0]",
        default=0.0,
    )
    design: str | None = CLUSTER.option(
        kinds.DESIGN, "Design to simulate, such as splitwise-ha or baseline-h100, with the numbers of its machines."
    )
    prompt_machines: int | None = CLUSTER.option(kinds.MACHINES, "Prompt machines of the design.", flag="--prompt")
    token_machines: int | None = CLUSTER.option(kinds.MACHINES, "Token machines of the design.", flag="--token")
    mixed_machines: int | None = CLUSTER.option(kinds.MACHINES, "Mixed machines of the design.", flag="--mixed")
    pools: tuple[str, ...] = CLUSTER.option(
        kinds.POOLS.shown_as("ROLE:MACHINE[:TP]=COUNT"),
        "A pool, such as prompt:dgx-h100=20, in place of --design; several of one role are served together.",
    )
    tensor_parallel: int | None = CLUSTER.option(
        kinds.whole("GPUs").varied_as("tensor parallelism"),
        "Tensor parallelism: GPUs of one replica. Below a machine's 8, it runs several. [default: the largest with "
        "latency curves]",
    )
    prompt_tensor_parallel: int | None = CLUSTER.option(
        kinds.whole("GPUs").varied_as("tensor parallelism of prompt machines"),
        "Tensor parallelism of prompt machines only.",
    )
    token_tensor_parallel: int | None = CLUSTER.option(
        kinds.whole("GPUs").varied_as("tensor parallelism of token machines"),
        "Tensor parallelism of token machines only.",
    )
    failures: tuple[str, ...] = CLUSTER.option(
        kinds.POOLS.shown_as("ROLE:NUMBER@FROM[-UNTIL]"),
        "A machine that fails, such as prompt:3@30s-60s; without an end it does not come back. Its requests start "
        "again.",
        flag="--fail",
    )
    policy: str | None = POLICY.option(
        kinds.name_of("policy", defaults.POLICIES),
        "Scheduling of requests: pools that lend machines to each other, strict pools, mixed batching, chunked "
        "prefill, strict pools as engines run them, or these with short prompts computed where they are decoded (see "
        f"docs/reference/simulation.md). [default: {_ENGINES[0]}, {_ENGINES[1]} for mixed machines; {_PAPERS[0]} and "
        f"{_PAPERS[1]} with splitwise-sim]",
    )
    max_pending_tokens: int | None = POLICY.option(
        kinds.whole("tokens", 0, 1_000_000_000).varied_as("queue of a prompt machine at most"),
        "Queue at which a prompt machine takes no more prompts and the pool borrows a machine, or, with deflect, sends "
        "them to token machines. "
        f"[default: {defaults.MAX_PENDING_TOKENS}]",
    )
    batch_tokens: int | Mapping[str, int] | None = POLICY.option(
        kinds.BUDGETS.varied_as("tokens in an iteration at most"),
        "Most tokens in an iteration, of all pools or by role: 2048, or prompt=4096,token=512. "
        f"[default: the engine's; {defaults.BATCH_TOKENS} with policies of the Splitwise paper]",
    )
    batch_requests: int | None = POLICY.option(
        kinds.whole("requests", most=100_000).varied_as("requests in an iteration at most"),
        "Most requests in an iteration. "
        f"[default: the engine's; {defaults.BATCH_REQUESTS} with policies of the Splitwise paper]",
    )
    max_preemptions: int | None = POLICY.option(
        kinds.whole().varied_as("times that a request is passed over at most"),
        f"Number of times that a request is passed over before it goes first. [default: {defaults.MAX_PREEMPTIONS}]",
    )
    transfer_retry_s: float | None = POLICY.option(
        kinds.RETRY.varied_as("time until a transfer is tried again"),
        "Time until a KV cache that found no room tries again, such as 1s; 0 to go as soon as memory is freed. "
        f"[default: {defaults.TRANSFER_RETRY_S['measured']:g}; "
        f"{defaults.TRANSFER_RETRY_S['splitwise-sim']:g}s with splitwise-sim]",
    )
    share_links: bool | None = POLICY.option(
        _LINKS,
        "Bandwidth of a link for simultaneous KV-cache transfers: shared among them, or all of it for each. "
        f"[default: {_LINKS.texts(defaults.SHARE_LINKS['measured'])[0]}; "
        f"{_LINKS.texts(defaults.SHARE_LINKS['splitwise-sim'])[0]} with splitwise-sim]",
        flag="--links",
    )
    deflect_below_tokens: int | None = POLICY.option(
        kinds.whole("tokens", 0, 1_000_000_000).varied_as("shortest prompt for prompt machines"),
        "Prompts below this length are computed where they are decoded, with deflect. "
        f"[default: {defaults.DEFLECT_BELOW_TOKENS}]",
        flag="--deflect-below",
    )
    percentiles: tuple[float, ...] = METHOD.option(
        kinds.positive(metavar="PERCENT")
        .checked(lambda percent: percent < 100.0, "above 0 and below 100")
        .several()
        .once(),
        "A percentile to report beside 50, 90 and 99, such as 95 or 99.9.",
    )
    repeat: int | None = METHOD.option(
        kinds.whole("runs", most=1000), "Number of additional runs, one at a time, to report the median of their time."
    )
    records: str | None = OUTPUT.option(kinds.FILE, "Write every request as .parquet or .csv, by the ending.")
    timeline: str | None = OUTPUT.option(kinds.FILE, "Draw machines and batches over time as .png, .svg or .pdf.")
