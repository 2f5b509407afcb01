"""The options of ``provision simulate``, which ``provision sweep`` shares, and how text becomes a field.

Those that ``provision plan`` has too are in ``options``. Defaults are read from ``SimulateOptions``; an option that is
not given is not passed on, so that they hold.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from provisioner.cli.given import Flag, group
from provisioner.cli.options import METHOD as PLAN_METHOD
from provisioner.cli.options import WORKLOAD as PLAN_WORKLOAD
from provisioner.cli.options import parse_time, positive, whole
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import DURATION_S, WARM_UP, SimulateOptions
from provisioner.specs.units import format_seconds, parse_fraction, parse_non_negative, parse_positive

_DEFAULT: Final = SimulateOptions()


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


WORKLOAD: Final = group(
    "Workload",
    workload=PLAN_WORKLOAD["workload"],
    rate_rps=Flag(
        "--rate", metavar="RATE", help="Requests/s.", default="the workload's own", parse=positive("requests/s")
    ),
    rates_rps=Flag(
        "--rates",
        metavar="RATE,...|FILE",
        help="Requests/s minute by minute, in place of --rate and --duration: 30,50,70, or a file with one in a line.",
        parse=parse_rates,
    ),
    duration_s=Flag(
        "--duration",
        metavar="TIME",
        help="Time in which requests arrive, in s or with a unit: 120, 10min. All of them are served.",
        default=format_seconds(DURATION_S),
        parse=parse_time,
    ),
    sets=Flag(
        "--seeds",
        metavar="COUNT",
        help="Independent request sets; results are means over them, with intervals.",
        default=_DEFAULT.sets,
        parse=whole("request sets"),
    ),
    trace=Flag(
        "--trace",
        metavar="FILE",
        help="Requests and times of a trace file as they are, in place of --workload and --rate.",
        refuses={"workload": "takes requests and times as they are; leave out --workload"},
    ),
    cv=PLAN_WORKLOAD["cv"],
    independent=PLAN_WORKLOAD["independent"],
    in_flight=Flag(
        "--in-flight",
        metavar="COUNT",
        help="Closed loop: so many requests in the cluster at any time, the next one when one completes.",
        parse=whole("requests"),
    ),
    requests=Flag(
        "--requests",
        metavar="COUNT",
        help="Requests of the closed loop in all.",
        default="20 times --in-flight, 2,000 at least",
        parse=whole("requests"),
    ),
    warm_up=Flag(
        "--warm-up",
        metavar="SHARE",
        help="Share of the time at its start whose arrivals are not measured: 0.1 or 10%.",
        default=f"{WARM_UP:g}, of a trace 0",
        parse=parse_fraction,
    ),
    cool_down=Flag(
        "--cool-down",
        metavar="SHARE",
        help="The same at its end.",
        default=f"{_DEFAULT.cool_down:g}",
        parse=parse_fraction,
    ),
    model=PLAN_WORKLOAD["model"],
)

CLUSTER: Final = group(
    "Cluster",
    design=Flag(
        "--design",
        metavar="NAME",
        help="Design to simulate, such as splitwise-ha or baseline-h100, with the numbers of its machines.",
    ),
    prompt_machines=Flag("--prompt", metavar="COUNT", help="Prompt machines of the design.", parse=whole("machines")),
    token_machines=Flag("--token", metavar="COUNT", help="Token machines of the design.", parse=whole("machines")),
    mixed_machines=Flag("--mixed", metavar="COUNT", help="Mixed machines of the design.", parse=whole("machines")),
    pools=Flag(
        "--pool",
        metavar="ROLE:MACHINE[:TP]=COUNT",
        help="A pool, such as prompt:dgx-h100=20, in place of --design; several of one role are served together. "
        "Repeatable.",
        several=True,
    ),
    tensor_parallel=Flag(
        "--tp",
        metavar="GPUS",
        help="Tensor parallelism: GPUs of one replica. Below a machine's 8, it runs several.",
        default="the largest with latency curves",
        parse=whole("GPUs"),
    ),
    prompt_tensor_parallel=Flag(
        "--prompt-tp", metavar="GPUS", help="The same for prompt machines only.", parse=whole("GPUs")
    ),
    token_tensor_parallel=Flag(
        "--token-tp", metavar="GPUS", help="The same for token machines only.", parse=whole("GPUs")
    ),
    failures=Flag(
        "--fail",
        metavar="ROLE:NUMBER@FROM[-UNTIL]",
        help="A machine that fails, such as prompt:3@30s-60s; without an end it does not come back. Its requests start "
        "again. Repeatable.",
        several=True,
    ),
)

POLICY: Final = group(
    "Policy",
    policy=Flag(
        "--policy",
        metavar="splitwise|split|mixed|chunked",
        help="How requests are scheduled: pools that lend machines to each other, strict pools, mixed batching, or "
        "chunked prefill (see docs/reference/simulation.md).",
        default="splitwise; mixed for mixed machines",
    ),
    max_pending_tokens=Flag(
        "--max-pending-tokens",
        metavar="TOKENS",
        help="Queue beyond which a prompt machine takes no more and the pool borrows one.",
        default="8192",
        parse=whole("tokens", 0),
    ),
    batch_tokens=Flag(
        "--batch-tokens", metavar="TOKENS", help="Most tokens in an iteration.", default="2048", parse=whole("tokens")
    ),
    batch_requests=Flag(
        "--batch-requests",
        metavar="COUNT",
        help="Most requests in an iteration.",
        default="512",
        parse=whole("requests"),
    ),
    max_preemptions=Flag(
        "--max-preemptions",
        metavar="COUNT",
        help="How often a request is passed over before it goes first.",
        default="4",
        parse=whole(),
    ),
    transfer_retry_s=Flag(
        "--transfer-retry",
        metavar="TIME",
        help="When a KV cache that found no room tries again, such as 1s; 0 for as soon as memory is freed.",
        default="0; 1s with splitwise-sim",
        parse=parse_retry,
    ),
    share_links=Flag(
        "--links",
        metavar="shared|apart",
        help="Whether KV caches on their way at once share a link's bandwidth, or each has all of it.",
        default="shared; apart with splitwise-sim",
        parse=parse_links,
    ),
)

METHOD: Final = group(
    "Method",
    percentiles=Flag(
        "--percentile",
        metavar="PERCENT",
        help="A percentile to report beside 50, 90 and 99, such as 95 or 99.9. Repeatable.",
        several=True,
        parse=lambda texts, what: tuple(parse_positive(text, what) for text in texts),
    ),
    assumptions=PLAN_METHOD["assumptions"],
    dtype=PLAN_METHOD["dtype"],
    kv_dtype=PLAN_METHOD["kv_dtype"],
    reference=PLAN_METHOD["reference"],
    network=PLAN_METHOD["network"],
    specs=PLAN_METHOD["specs"],
    scale=PLAN_METHOD["scale"],
    seed=PLAN_METHOD["seed"],
    repeat=Flag(
        "--repeat",
        metavar="COUNT",
        help="Run so often again, one run at a time, and report the median of their time.",
        parse=whole("runs"),
    ),
)

FILES: Final = group(
    "Output",
    records=Flag("--records", metavar="FILE", help="Write every request as .parquet or .csv, by the ending."),
    timeline=Flag("--timeline", metavar="FILE", help="Draw machines and batches over time as .png, .svg or .pdf."),
)
