"""``docs/reference/cli.md``, generated from the command line.

``python -m provisioner.cli.document > docs/reference/cli.md`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from provisioner.cli.commands import command
from provisioner.cli.help import Entry, entries, paragraphs, subcommands, usage
from provisioner.cli.run import PROGRAM

EXAMPLES: Final = (
    ("The cheapest cluster for coding, every percentile of the Splitwise paper's limits", "provision plan"),
    ("Only the 99th percentiles", "provision plan --workload coding --slo p99"),
    (
        "Own limits, 20 % more load than 50 requests/s, prices of the paper",
        "provision plan --workload conversation --rate 50 --headroom 20% --slo batch --ttft-p99 2s --tbt-p50 60ms "
        "--prices paper",
    ),
    (
        "The largest rate within a power budget",
        "provision plan --objective throughput --max-power 100kW --slo p99 --design splitwise-hh",
    ),
    ("For a program", "provision plan --slo p99 --json"),
    ("A report to keep", "provision plan --slo p99 --out plan.md --out plan.csv --out plan.json"),
    ("What stands behind the numbers", "provision curves dgx-h100"),
    (
        "What a cluster does with a load",
        "provision simulate --model bloom-176b --design splitwise-hh --prompt 27 --token 3 --workload coding --rate 70",
    ),
    (
        "Five request sets, every request in a file, and a picture",
        "provision simulate --design baseline-h100 --mixed 30 --seeds 5 --records out.parquet --timeline out.png",
    ),
    (
        "Pools of several types, one machine failing for half a minute, chunked prefill",
        "provision simulate --pool mixed:dgx-h100=20 --pool mixed:dgx-a100=20 --policy chunked --fail mixed:3@30s-60s",
    ),
    (
        "A load that changes by the minute, and one more percentile",
        "provision simulate --design splitwise-ha --prompt 18 --token 4 --rates 30,70,40 --percentile 99.9",
    ),
)

JSON_KEYS: Final = {
    "schema_version": "2: the version of this layout",
    "kind": "`plan`",
    "design": "the chosen design, such as Splitwise-HA",
    "pools": "for each pool its `role` (prompt, token or mixed), `machine`, `machines`, `tensor_parallel`, `replicas`, "
    "`gpus_per_machine`, `utilization` (its load over the largest it sustains; simulated, the share of time in which "
    "it works), `cost_usd_per_h`, `power_w`, the requests that it serves (`min_prompt_tokens` to `max_prompt_tokens`, "
    "null for no end), `binding` (what breaks with one machine fewer), `mean_batch` (sequences decoded together), "
    "`link_load` (share of its links that arriving KV caches take)",
    "cost_usd_per_h": "cost of all machines",
    "cost_usd_per_million_tokens": "the same per million prompt and output tokens at the rate",
    "cost_usd_per_million_output_tokens": "the same per million output tokens",
    "power_w": "provisioned power of all machines",
    "machines": "machines in total",
    "rate_rps": "the load asked for, or found where throughput is the objective",
    "planned_rate_rps": "that load with the headroom; the latencies hold for it",
    "objective": "what was made smallest or largest",
    "model": "the model",
    "workload": "the workload",
    "slo": "the set of limits, in words",
    "latency": "for each `metric` and `percentile` its `seconds` and `slowdown`, the `limit` (its `value` in `kind`, "
    "`seconds` or `slowdown`; null without one), `slack` ((limit - value) / limit), `binding`; simulated, its interval "
    "over the request sets (`seconds_range`, `slowdown_range`) and what the formulas predict",
    "binding": "what binds: limits, or capacity, that one machine fewer in some pool would break",
    "worst_slack": "the smallest slack of any limit",
    "tokens_per_usd": "prompt and output tokens for a dollar",
    "tokens_per_kwh": "the same for a kWh of the provisioned power",
    "batch": "null, or of a `--backlog` its `requests` (with the headroom), `within_s`, the `rate_rps` at which they "
    "are fed for `feed_s`, and `done_s`, when the last ends as simulated (null with `--fast`)",
    "promise": "null, or the plan of the same load within the `slo` of `--against`: `design`, `pools`, `rate_rps`, "
    "`cost_usd_per_h`, `power_w`, `machines`; without one null in these and the `reason`",
    "evidence": "null with `--fast`; else the proof: `rule` (when a cluster passes, in words), `policy`, `optimal`, "
    "`lower_bound` and `gap`, how many clusters were `simulated` (in `runs` of one request set), `rejected_early`, "
    "`near_misses`, `undecided` and `cut` (excluded without simulation, because a larger one missed a limit by more "
    "than `cut_margin` times), `neighbours` (better clusters that fail, with what each `breaks`), `violations` of "
    "monotonicity, and the counts `by_design`",
    "alternatives": "for each other design `design`, `feasible`, its own best `pools`, `cost_usd_per_h`, `power_w`, "
    "`machines`, `rate_rps`, and the `reason` why it lost or has no plan",
    "warnings": "what to know before relying on the plan",
    "sources": "where lengths, latencies, prices and power came from",
    "question": "every option, null where it was not given; the rate is that planned for",
    "command": "the command that asks the same again",
    "method": "how the latencies were computed",
    "solver": "the solver of the integer program",
    "gap": "its optimality gap; 0 is proven optimal",
    "seed": "the seed",
    "versions": "versions of this program and of what it computes with",
}

SIMULATION_KEYS: Final = {
    "design": "the design that was simulated",
    "pools": "for each pool its `role`, `machine`, `machines`, `replicas`, `tensor_parallel`; the share of their time "
    "in the measured window in which replicas work, `utilization`, and that split by kind of iteration, `prompt_busy`, "
    "`token_busy`, `mixed_busy`; `mixed_pool_share` (share of time lent to the mixed pool); `mean_batch` and "
    "`batch_time_share` (share of time by number of requests in an iteration, from 0); `mean_waiting`, `most_waiting` "
    "(prompts waiting at a replica); `kv_memory_mean`, `kv_memory_most` (shares of its KV memory); "
    "`generated_tokens_per_s`; `energy_kwh` (null: no machine's power curve is known)",
    "slowdown": "by `ttft`, `tbt`, `largest_gap`, `e2e`, then by `p50`, `p90`, `p99` and those asked for: the mean "
    "over the request sets of the percentile of the slowdown; null where requests were never served",
    "seconds": "the same in s",
    "slo": "`name`, `met` (whether every limit is; null without limits), and for each of `limits` its `metric`, "
    "`percentile`, `kind`, `limit`, `value` with its interval `low` to `high`, and `met`: pass, fail or undecided",
    "stable": "whether the cluster keeps up with the load",
    "instability": "why it does not; empty where it does",
    "requests": "requests of a set, on average",
    "measured_requests": "those of them that arrived in the measured window",
    "sets": "request sets",
    "rate_rps": "the rate offered; null in a closed loop",
    "throughput_rps": "requests completed per second of the measured window",
    "throughput_tokens_per_s": "their output tokens",
    "latency": "a row for each metric and percentile: `seconds` and `slowdown`, each with its 95 % interval over the "
    "sets (`..._low`, `..._high`; null for one set), `limit`, `limit_kind`, `met`",
    "model": "the model",
    "workload": "the workload",
    "load": "how requests arrive, in words",
    "policy": "the scheduling policy",
    "thresholds": "its thresholds",
    "assumptions": "how times were computed",
    "wall_s": "time that the simulation alone took, percentiles included, summed over the sets; with `--repeat` the "
    "median of warm runs",
    "moves": "machines moved to the mixed pool, over all sets",
    "preemptions": "token phases interrupted by prompts",
    "restarts": "requests started again after their machine failed",
    "unfinished": "requests that were never served",
    "warnings": "what to know before relying on the result",
    "sources": "where lengths and latencies came from",
    "question": "every option, null where it was not given",
    "command": "the command that asks the same again",
    "seed": "the seed; set k draws from the stream (seed, k)",
    "versions": "versions of this program and of what it computes with",
}

_INTRODUCTION: Final = """\
# Command line

Generated from the command line by `python -m provisioner.cli.document > docs/reference/cli.md`; a test holds it to
that.

Results go to stdout, errors and the progress of long work to stderr. Piped, the output is plain text. A result is
written whole or not at all."""

_ENDINGS: Final = """\
## Exit codes

| code | meaning |
| ---: | --- |
| 0 | done |
| 1 | a defect of this program; `--debug` shows the traceback |
| 2 | bad input: one line on stderr, `error: ` and what is wrong, where, and how to mend it |
| 3 | no plan is feasible: a line `error: ` that names the limit that binds, then lines `nearest: ` with the smallest \
changes that would make it feasible |
| 130 | interrupted: a line says what was done |
| 141 | the reader of the output went away |"""


_TERMINAL: Final = """\
## The plan on the terminal

The first line is the answer: the design and its pools. Then:

- **binding**: the limits that one machine fewer in some pool would break, or capacity; **least slack**: how far the
  tightest limit is from its value, in per cent of it.
- **Pools**: TP is the tensor parallelism of a replica; load is the rate over the largest that the pool sustains;
  batch is the mean number of sequences that a replica decodes together; the last column says what breaks with one
  machine fewer.
- **Predicted latency**: each percentile in ms, as a slowdown against the same request alone on a DGX-A100, and its
  limit with the slack.
- **Other designs**: each at its own best, with how much more it costs (or draws, or takes in machines); after them
  those without a plan, and why.
- **Warnings**, **Sources**, and **How this was computed**: what the answer rests on. An analytic answer is not
  simulated."""


_SIMULATION: Final = """\
## The simulation on the terminal

The first line is the cluster, the second what it served and whether it meets its limits. Then:

- **stable**: whether the cluster keeps up; **throughput**: requests completed per second of the measured window.
- **Latency**: each percentile in ms and as a slowdown against the same request alone on a DGX-A100, over several
  request sets their mean with its 95 % interval, and whether its limit is met. Over several sets a limit is *met* where
  the one-sided 95 % upper bound of the mean is within it, *missed* where the mean is not, *undecided* between.
- **Pools**: the share of time in which replicas work, split by kind of iteration: prompts, tokens, or both (mixed);
  *lent* is the share of time in which machines of the pool are in the mixed pool; batch is the mean number of requests
  in an iteration.
- **Queues and memory of a replica**: prompts waiting, and KV memory taken, on average and at most; output tokens per
  second of the whole pool.
- **Share of time by requests in an iteration**: how large batches are, in per cent of all replicas' time.

Numbers are of the measured window: the arrivals from 10 % of the duration (`--warm-up`) to its end, or all of a
trace."""


def document() -> str:
    """The page in markdown, ending in a newline."""
    from provisioner.report import records

    root = command()
    parts = [_INTRODUCTION, *_command(root, None), _examples(), _ENDINGS, _TERMINAL]
    parts.append("## The plan as JSON")
    parts.append("`--json` and `--out FILE.json` give one object. A number that is not finite is null.")
    parts.append(_table(("key", "content"), ((f"`{key}`", text) for key, text in JSON_KEYS.items())))
    parts += [
        "## The plan as markdown",
        "`--out FILE.md`: what the terminal shows, then every input, and the command that asks the same again.",
    ]
    parts += [_SIMULATION, "## The simulation as JSON", "`--json` and `--out FILE.json` give one object."]
    parts.append(_table(("key", "content"), ((f"`{key}`", text) for key, text in SIMULATION_KEYS.items())))
    parts += ["## The records of a simulation", "`--records FILE.parquet` or `FILE.csv`: a row for each request."]
    parts.append(_table(("column", "content"), ((f"`{name}`", text) for name, text in records.COLUMNS.items())))
    parts.append(
        "Times are in s from the start; a value that does not exist is null (empty in CSV). Machines are named as in "
        "`--fail`: `prompt:3` is the third prompt machine."
    )
    return "\n\n".join(parts) + "\n"


def _examples() -> str:
    return "## Examples\n\n" + "\n\n".join(f"{what}:\n\n```\n{typed}\n```" for what, typed in EXAMPLES)


def _command(each: Any, parent: Any) -> Iterator[str]:
    """The sections of a command and of those below it."""
    name = PROGRAM if parent is None else each.name
    context = each.context_class(each, info_name=name, parent=parent, **each.context_settings)
    yield f"## {context.command_path}"
    yield "\n\n".join(paragraphs(each))
    yield f"```\n{usage(each, context)}\n```"
    below = subcommands(each)
    if below:
        yield _table(
            ("command", "what it does"),
            ((f"`{context.command_path} {name}`", _plain(paragraphs(one)[0])) for name, one in below),
        )
    panels: dict[str, list[Entry]] = {}
    for entry in entries(each, context):
        panels.setdefault(entry.panel, []).append(entry)
    for panel, listed in panels.items():
        rows = ((f"`{_plain(e.names)}`", _plain(e.text), _plain(e.default)) for e in listed)
        what = "argument" if panel == "Arguments" else "option"
        yield f"**{panel}**\n\n{_table((what, 'meaning', 'default'), rows)}"
    for _, one in below:
        yield from _command(one, context)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(document())
