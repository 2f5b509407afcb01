"""Derive a workload from a trace: bins of its prompt and output tokens, and how its requests arrived.

Any trace that ``provision workloads import`` recognises will do. The shipped workloads come from the Azure LLM
inference traces of 2023 (https://github.com/Azure/AzurePublicDataset) and from Mooncake's traces of 2025
(https://github.com/kvcache-ai/Mooncake); to rebuild them:

    python workloads/derive_workload.py AzureLLMInferenceTrace_code.csv --name coding
    python workloads/derive_workload.py AzureLLMInferenceTrace_conv.csv --name conversation
    python workloads/derive_workload.py conversation_trace.jsonl --name long-context

The files are derived data: the number of requests in each bin of lengths, and the arrivals' rates.
``parametric_workloads.py`` writes the workloads of published numbers, without a trace.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.errors import ProvisionerError
from provisioner.specs.schema import save_workload
from provisioner.specs.traces import profile, read_trace

# The paper's planning load: Poisson arrivals at 70 requests/s for its cheapest cluster (Splitwise, Fig. 12).
PEAK_RATE_RPS = 70.0
PLANNING_CV = 1.0


@dataclass(frozen=True, slots=True)
class Shipped:
    """Properties of a shipped workload that are not in its trace; a rate of None is the mean of the trace."""

    title: str
    sources: tuple[str, ...]
    note: str
    rate_rps: float | None = PEAK_RATE_RPS


NOTE = (
    "rate_rps and cv are what to plan for: the load of the paper's clusters, 70 requests/s with Poisson "
    "arrivals. What the trace itself had is under arrivals: its rate, and gaps and counts that are burstier "
    "than Poisson where cv and index_of_dispersion (variance over mean of arrivals in windows of 1, 10 and 60 s) "
    "are above 1. Requests are independent here: no reuse of a conversation's earlier turns was recorded."
)
OWN_NOTE = "rate_rps and cv are what to plan for; what the trace itself had is under arrivals."
LONG_CONTEXT_NOTE = (
    "rate_rps is the trace's mean and cv is 1 (Poisson); what the trace itself had is under arrivals. Its times "
    "come in steps of 3 s, so the burstiness of gaps and of counts in 1 s is that of the recording. Repeated "
    "prefixes are counted in blocks of 512 tokens; prefix caching is not modelled, so a plan for this workload is "
    "that of a cluster without it."
)


def _azure(title: str, trace: str) -> Shipped:
    return Shipped(
        title,
        (
            f'AzurePublicDataset, "Azure LLM inference trace 2023", {trace}, CC-BY 4.0',
            "Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024",
        ),
        NOTE,
    )


SHIPPED = {
    "coding": _azure("Coding: Azure code completion, November 2023", "AzureLLMInferenceTrace_code.csv"),
    "conversation": _azure("Conversation: Azure chat, November 2023", "AzureLLMInferenceTrace_conv.csv"),
    "long-context": Shipped(
        "Long context: Mooncake conversations",
        (
            "Mooncake FAST'25 trace release, conversation_trace.jsonl, github.com/kvcache-ai/Mooncake, Apache-2.0",
            "Qin et al., Mooncake: Trading More Storage for Less Computation, FAST 2025",
        ),
        LONG_CONTEXT_NOTE,
        rate_rps=None,
    ),
}


def main(arguments: list[str]) -> int:
    """Derive one workload; exit code 0, or 2 with one line on the error."""
    parser = argparse.ArgumentParser(description="Derive a workload's bins and arrival profile from a trace.")
    parser.add_argument("trace", type=Path, help="trace file")
    parser.add_argument("--name", required=True, help="name of the workload, and of its files")
    parser.add_argument("--title", default="", help="title (default: the shipped one, or the file's name)")
    parser.add_argument("--source", action="append", default=[], help="where the trace is from (repeatable)")
    parser.add_argument("--rate", type=float, help="peak rate in requests/s (default: the shipped one, or 70)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: the script's)")
    given = parser.parse_args(arguments)
    shipped = SHIPPED.get(given.name, Shipped(given.title, (), OWN_NOTE))
    rate_rps = shipped.rate_rps if given.rate is None else given.rate
    try:
        trace = read_trace(given.trace)
        if rate_rps is None:
            rate_rps = profile(trace.arrival_s).mean_rate_rps
        workload = trace.workload(given.name, title=given.title or shipped.title, rate_rps=rate_rps)
        arrivals = workload.arrivals and replace(workload.arrivals, peak_rate_rps=None, cv_within_windows=None)
        sources = tuple(given.source) or shipped.sources or workload.sources
        workload = replace(workload, cv=PLANNING_CV, arrivals=arrivals, sources=sources, note=shipped.note)
        comment = "Derived by derive_workload.py (in this folder) from the trace named under sources."
        paths = save_workload(workload, given.out, comment)
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{workload.classes} classes: {', '.join(str(path) for path in paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
