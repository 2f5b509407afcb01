"""The options of ``provision simulate``: how each is typed, and how text becomes a field of ``SimulateOptions``.

Those that ``provision plan`` has too are in ``options``. Defaults are read from ``SimulateOptions``; an option that is
not given is not passed on, so that they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from provisioner.cli.help import option
from provisioner.cli.options import Parsers, parse_scale, parse_time, parsed_fields
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import DURATION_S, WARM_UP, SimulateOptions
from provisioner.specs.units import (
    format_seconds,
    parse_fraction,
    parse_non_negative,
    parse_positive,
    parse_whole,
)

_DEFAULT: Final = SimulateOptions()

_WORKLOAD = "Workload"
_CLUSTER = "Cluster"
_METHOD = "Method"
_POLICY = "Policy"


DesignOption = Annotated[
    str | None,
    option(
        "--design",
        metavar="NAME",
        help="Design to simulate, such as splitwise-ha or baseline-h100, with the numbers of its machines.",
        panel=_CLUSTER,
    ),
]
PromptOption = Annotated[
    str | None, option("--prompt", metavar="COUNT", help="Prompt machines of the design.", panel=_CLUSTER)
]
TokenOption = Annotated[
    str | None, option("--token", metavar="COUNT", help="Token machines of the design.", panel=_CLUSTER)
]
MixedOption = Annotated[
    str | None, option("--mixed", metavar="COUNT", help="Mixed machines of the design.", panel=_CLUSTER)
]
PoolOption = Annotated[
    list[str] | None,
    option(
        "--pool",
        metavar="ROLE:MACHINE[:TP]=COUNT",
        help="A pool, such as prompt:dgx-h100=20, in place of --design; several of one role are served together. "
        "Repeatable.",
        panel=_CLUSTER,
    ),
]
TpOption = Annotated[
    str | None,
    option(
        "--tp",
        metavar="GPUS",
        help="Tensor parallelism: GPUs of one replica. Below a machine's 8, it runs several.",
        panel=_CLUSTER,
        default="the largest with latency curves",
    ),
]
PromptTpOption = Annotated[
    str | None, option("--prompt-tp", metavar="GPUS", help="The same for prompt machines only.", panel=_CLUSTER)
]
TokenTpOption = Annotated[
    str | None, option("--token-tp", metavar="GPUS", help="The same for token machines only.", panel=_CLUSTER)
]
FailOption = Annotated[
    list[str] | None,
    option(
        "--fail",
        metavar="ROLE:NUMBER@FROM[-UNTIL]",
        help="A machine that fails, such as prompt:3@30s-60s; without an end it does not come back. Its requests start "
        "again. Repeatable.",
        panel=_CLUSTER,
    ),
]
RateOption = Annotated[
    str | None,
    option("--rate", metavar="RATE", help="Requests/s.", panel=_WORKLOAD, default="the workload's own"),
]
RatesOption = Annotated[
    str | None,
    option(
        "--rates",
        metavar="RATE,...|FILE",
        help="Requests/s minute by minute, in place of --rate and --duration: 30,50,70, or a file with one in a line.",
        panel=_WORKLOAD,
    ),
]
DurationOption = Annotated[
    str | None,
    option(
        "--duration",
        metavar="TIME",
        help="Time in which requests arrive, in s or with a unit: 120, 10min. All of them are served.",
        panel=_WORKLOAD,
        default=format_seconds(DURATION_S),
    ),
]
SeedsOption = Annotated[
    str | None,
    option(
        "--seeds",
        metavar="COUNT",
        help="Independent request sets; results are means over them, with intervals.",
        panel=_WORKLOAD,
        default=_DEFAULT.sets,
    ),
]
TraceOption = Annotated[
    str | None,
    option(
        "--trace",
        metavar="FILE",
        help="Requests and times of a trace file as they are, in place of --workload and --rate.",
        panel=_WORKLOAD,
    ),
]
InFlightOption = Annotated[
    str | None,
    option(
        "--in-flight",
        metavar="COUNT",
        help="Closed loop: so many requests in the cluster at any time, the next one when one completes.",
        panel=_WORKLOAD,
    ),
]
RequestsOption = Annotated[
    str | None,
    option(
        "--requests",
        metavar="COUNT",
        help="Requests of the closed loop in all.",
        panel=_WORKLOAD,
        default="20 times --in-flight, 2,000 at least",
    ),
]
WarmUpOption = Annotated[
    str | None,
    option(
        "--warm-up",
        metavar="SHARE",
        help="Share of the time at its start whose arrivals are not measured: 0.1 or 10%.",
        panel=_WORKLOAD,
        default=f"{WARM_UP:g}, of a trace 0",
    ),
]
CoolDownOption = Annotated[
    str | None,
    option(
        "--cool-down",
        metavar="SHARE",
        help="The same at its end.",
        panel=_WORKLOAD,
        default=f"{_DEFAULT.cool_down:g}",
    ),
]
PolicyOption = Annotated[
    str | None,
    option(
        "--policy",
        metavar="splitwise|split|mixed|chunked",
        help="How requests are scheduled: pools that lend machines to each other, strict pools, mixed batching, or "
        "chunked prefill (see docs/simulation.md).",
        panel=_POLICY,
        default="splitwise; mixed for mixed machines",
    ),
]
MaxPendingTokensOption = Annotated[
    str | None,
    option(
        "--max-pending-tokens",
        metavar="TOKENS",
        help="Queue beyond which a prompt machine takes no more and the pool borrows one.",
        panel=_POLICY,
        default="8192",
    ),
]
BatchTokensOption = Annotated[
    str | None,
    option("--batch-tokens", metavar="TOKENS", help="Most tokens in an iteration.", panel=_POLICY, default="2048"),
]
BatchRequestsOption = Annotated[
    str | None,
    option("--batch-requests", metavar="COUNT", help="Most requests in an iteration.", panel=_POLICY, default="512"),
]
MaxPreemptionsOption = Annotated[
    str | None,
    option(
        "--max-preemptions",
        metavar="COUNT",
        help="How often a request is passed over before it goes first.",
        panel=_POLICY,
        default="4",
    ),
]
TransferRetryOption = Annotated[
    str | None,
    option(
        "--transfer-retry",
        metavar="TIME",
        help="When a KV cache that found no room tries again, such as 1s; 0 for as soon as memory is freed.",
        panel=_POLICY,
        default="0; 1s with splitwise-sim",
    ),
]
LinksOption = Annotated[
    str | None,
    option(
        "--links",
        metavar="shared|apart",
        help="Whether KV caches on their way at once share a link's bandwidth, or each has all of it.",
        panel=_POLICY,
        default="shared; apart with splitwise-sim",
    ),
]
PercentileOption = Annotated[
    list[str] | None,
    option(
        "--percentile",
        metavar="PERCENT",
        help="A percentile to report beside 50, 90 and 99, such as 95 or 99.9. Repeatable.",
        panel=_METHOD,
    ),
]
RepeatOption = Annotated[
    str | None,
    option(
        "--repeat",
        metavar="COUNT",
        help="Run so often again, one run at a time, and report the median of their time.",
        panel=_METHOD,
    ),
]
RecordsOption = Annotated[
    str | None,
    option("--records", metavar="FILE", help="Write every request as .parquet or .csv, by the ending."),
]
TimelineOption = Annotated[
    str | None,
    option("--timeline", metavar="FILE", help="Draw machines and batches over time as .png, .svg or .pdf."),
]


def parse_retry(text: str, what: str) -> float:
    """Time of 0 or above in s, from a number of s or one with its unit.

    >>> parse_retry("0", "--transfer-retry"), parse_retry("0s", "--transfer-retry")
    (0.0, 0.0)
    """
    if text.strip() in ("0", "0s"):
        return 0.0
    return parse_time(text, what)


def parse_rates(text: str, what: str) -> tuple[float, ...]:
    """Rates minute by minute in requests/s: numbers with commas between, or a file that has one in a line.

    >>> parse_rates("30,50,70", "--rates")
    (30.0, 50.0, 70.0)
    """
    path = Path(text)
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{what} {text}: cannot be read: {error}") from None
        rates = [parse_non_negative(line.rstrip(","), f"{text}: line {k}") for k, line in enumerate(lines, start=1)]
        if not rates:
            raise InputError(f"{what} {text}: is empty")
        return tuple(rates)
    if not re.fullmatch(r"[-+\d.,eE\s]+", text):
        raise InputError(f"{what}: must be numbers with commas between, such as 30,50,70, or a file, got {text!r}")
    return tuple(parse_non_negative(part, what, "requests/s") for part in text.split(","))


def parse_links(text: str, what: str) -> bool:
    """Whether links are shared.

    >>> parse_links("apart", "--links")
    False
    """
    if text not in ("shared", "apart"):
        raise UnknownNameError(f"value of {what}", text, ("shared", "apart"))
    return text == "shared"


def _whole(unit: str = "", minimum: int = 1) -> Callable[[Any, str], int]:
    return lambda text, what: parse_whole(text, what, unit, minimum)


def _several(values: Iterable[str], _: str) -> tuple[str, ...]:
    return tuple(values)


_PARSE: Final[Parsers] = {
    "rate_rps": ("--rate", lambda text, what: parse_positive(text, what, "requests/s")),
    "rates_rps": ("--rates", parse_rates),
    "duration_s": ("--duration", parse_time),
    "sets": ("--seeds", _whole("request sets")),
    "cv": ("--cv", parse_non_negative),
    "scale": ("--scale", parse_scale),
    "in_flight": ("--in-flight", _whole("requests")),
    "requests": ("--requests", _whole("requests")),
    "warm_up": ("--warm-up", parse_fraction),
    "cool_down": ("--cool-down", parse_fraction),
    "prompt_machines": ("--prompt", _whole("machines")),
    "token_machines": ("--token", _whole("machines")),
    "mixed_machines": ("--mixed", _whole("machines")),
    "pools": ("--pool", _several),
    "tensor_parallel": ("--tp", _whole("GPUs")),
    "prompt_tensor_parallel": ("--prompt-tp", _whole("GPUs")),
    "token_tensor_parallel": ("--token-tp", _whole("GPUs")),
    "failures": ("--fail", _several),
    "max_pending_tokens": ("--max-pending-tokens", _whole("tokens", 0)),
    "batch_tokens": ("--batch-tokens", _whole("tokens")),
    "batch_requests": ("--batch-requests", _whole("requests")),
    "max_preemptions": ("--max-preemptions", _whole()),
    "transfer_retry_s": ("--transfer-retry", parse_retry),
    "share_links": ("--links", parse_links),
    "percentiles": ("--percentile", lambda texts, what: tuple(parse_positive(text, what) for text in texts)),
    "seed": ("--seed", _whole(minimum=0)),
    "repeat": ("--repeat", _whole("runs")),
}


def simulate_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``SimulateOptions`` from the parameters of the command; what was not given is left out."""
    if given.get("trace") is not None and given.get("workload") is not None:
        raise InputError("--trace: takes requests and times as they are; leave out --workload")
    return parsed_fields(given, _PARSE)
