"""``provision sweep``: every cluster of a design, or clusters over an input."""

from __future__ import annotations

from typing import Any

from provisioner.cli import simulate_options as simulation
from provisioner.cli import sweep_options as sweeping
from provisioner.cli.options import (
    AssumptionsOption,
    CvOption,
    DebugOption,
    E2eP50,
    E2eP90,
    E2eP99,
    IndependentOption,
    JsonOption,
    ModelOption,
    PricesOption,
    ScaleOption,
    SeedOption,
    SloOption,
    TbtP50,
    TbtP90,
    TbtP99,
    TtftP50,
    TtftP90,
    TtftP99,
    WorkloadOption,
)
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import json_text, report_text
from provisioner.errors import InputError
from provisioner.specs.units import parse_whole

# Parameters of the command that are no field of ``SimulateOptions``.
_OWN = (
    "prompt",
    "token",
    "mixed",
    "clusters",
    "vary",
    "objective",
    "prices",
    "threads",
    "dask",
    "resume",
    "out",
    "json",
    "debug",
)


def sweep(
    design: sweeping.DesignOption = None,
    prompt: sweeping.PromptOption = None,
    token: sweeping.TokenOption = None,
    mixed: sweeping.MixedOption = None,
    clusters: sweeping.ClusterOption = None,
    tensor_parallel: simulation.TpOption = None,
    prompt_tensor_parallel: simulation.PromptTpOption = None,
    token_tensor_parallel: simulation.TokenTpOption = None,
    prices: PricesOption = None,
    vary: sweeping.VaryOption = None,
    objective: sweeping.ObjectiveOption = None,
    workload: WorkloadOption = None,
    rate_rps: simulation.RateOption = None,
    rates_rps: simulation.RatesOption = None,
    duration_s: simulation.DurationOption = None,
    sets: simulation.SeedsOption = None,
    trace: simulation.TraceOption = None,
    cv: CvOption = None,
    independent: IndependentOption = False,
    in_flight: simulation.InFlightOption = None,
    requests: simulation.RequestsOption = None,
    warm_up: simulation.WarmUpOption = None,
    cool_down: simulation.CoolDownOption = None,
    model: ModelOption = None,
    slo: SloOption = None,
    ttft_p50: TtftP50 = None,
    ttft_p90: TtftP90 = None,
    ttft_p99: TtftP99 = None,
    tbt_p50: TbtP50 = None,
    tbt_p90: TbtP90 = None,
    tbt_p99: TbtP99 = None,
    e2e_p50: E2eP50 = None,
    e2e_p90: E2eP90 = None,
    e2e_p99: E2eP99 = None,
    policy: simulation.PolicyOption = None,
    max_pending_tokens: simulation.MaxPendingTokensOption = None,
    batch_tokens: simulation.BatchTokensOption = None,
    batch_requests: simulation.BatchRequestsOption = None,
    max_preemptions: simulation.MaxPreemptionsOption = None,
    transfer_retry_s: simulation.TransferRetryOption = None,
    share_links: simulation.LinksOption = None,
    percentiles: simulation.PercentileOption = None,
    assumptions: AssumptionsOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    threads: sweeping.ThreadsOption = None,
    dask: sweeping.DaskOption = None,
    resume: sweeping.ResumeOption = False,
    out: sweeping.OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Simulate every size of a design's pools, or clusters over an input.

    Answers with the optimum, the frontier of clusters that pass, which limit binds where, and every percentile of every
    cluster in the files of --out. With --vary: latency against the rate or any other input. Clusters that fail are
    part of the result: exit code 0.
    """
    given = {name: value for name, value in locals().items() if name not in _OWN}
    fields = simulation.simulate_fields(given)
    shared: dict[str, Any] = {
        "threads": sweeping.threads_of(threads),
        "dask": dask,
        "out": tuple(out or ()),
        "resume": resume,
        **({} if prices is None else {"prices": prices}),
    }
    ranges = {"prompt": prompt, "token": token, "mixed": mixed}
    if vary is None:
        if clusters:
            raise InputError("--cluster: is for --vary; give --design with ranges of its machines")
        found, document = _sizes(fields, ranges, objective, shared)
    else:
        if objective is not None:
            raise InputError("--objective: is of a sweep of sizes; leave it out with --vary")
        found, document = _input(fields, ranges, clusters, vary, shared)
    emit(json_text(found.to_dict()) if json else report_text(document(found), shared["out"]))


def _sizes(fields: dict[str, Any], ranges: dict[str, str | None], objective: str | None, shared: dict[str, Any]) -> Any:
    from provisioner import api
    from provisioner.report.sweep_document import sweep_document

    named: dict[str, Any] = {**ranges, **shared, **({} if objective is None else {"objective": objective})}
    with on_stderr() as progress:
        return api.sweep(**fields, **named, progress=progress), sweep_document


def _input(
    fields: dict[str, Any],
    ranges: dict[str, str | None],
    clusters: list[str] | None,
    vary: str,
    shared: dict[str, Any],
) -> Any:
    from provisioner import api
    from provisioner.report.vary_document import vary_document

    name, values = sweeping.input_of(vary)
    for role, text in ranges.items():
        if text is None:
            continue
        if clusters:
            raise InputError(f"--cluster: has the number of machines; leave out --{role}")
        if not text.strip().isdigit():
            raise InputError(f"--{role}: must be one number with --vary, which is at fixed sizes, got {text!r}")
        fields[f"{role}_machines"] = parse_whole(text, f"--{role}", "machines")
    with on_stderr() as progress:
        found = api.vary(
            name=name, values=values, clusters=tuple(clusters or ()), **shared, **fields, progress=progress
        )
    return found, vary_document
