"""Derive a workload from a trace: bins of its prompt and output tokens, and how its requests arrived.

Any trace that ``provision workloads import`` recognises will do. The shipped workloads come from the Azure
LLM inference traces of 2023 (https://github.com/Azure/AzurePublicDataset); to rebuild them:

    python workloads/derive_workload.py AzureLLMInferenceTrace_code.csv --name coding
    python workloads/derive_workload.py AzureLLMInferenceTrace_conv.csv --name conversation

What is written is derived: of the requests only how many fall in each bin of lengths, and the arrivals'
rates.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.errors import ProvisionerError
from provisioner.specs.schema import save_workload
from provisioner.specs.traces import read_trace


@dataclass(frozen=True, slots=True)
class Shipped:
    """What is not in a shipped workload's trace."""

    title: str
    trace: str


SHIPPED = {
    "coding": Shipped("Coding: Azure code completion, November 2023", "AzureLLMInferenceTrace_code.csv"),
    "conversation": Shipped("Conversation: Azure chat, November 2023", "AzureLLMInferenceTrace_conv.csv"),
}
SHIPPED_SOURCES = (
    'AzurePublicDataset, "Azure LLM inference trace 2023", {trace}, CC-BY 4.0',
    "Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024",
)
# The paper's planning load: Poisson arrivals at 70 requests/s for its cheapest cluster (Splitwise, Fig. 12).
PEAK_RATE_RPS = 70.0
PLANNING_CV = 1.0
NOTE = (
    "rate_rps and cv are what to plan for: the load of the paper's clusters, 70 requests/s with Poisson "
    "arrivals. What the trace itself had is under arrivals: its rate, and gaps and counts that are burstier "
    "than Poisson where cv and index_of_dispersion (variance over mean of arrivals in windows of so many s) "
    "are above 1. Requests are independent here: no reuse of a conversation's earlier turns was recorded."
)


def main(arguments: list[str]) -> int:
    """Derive one workload; 0, or 2 after one line on what is wrong."""
    parser = argparse.ArgumentParser(description="Derive a workload's bins and arrival profile from a trace.")
    parser.add_argument("trace", type=Path, help="trace file")
    parser.add_argument("--name", required=True, help="name of the workload, and of its files")
    parser.add_argument("--title", default="", help="title (default: the shipped one, or the file's name)")
    parser.add_argument("--source", action="append", default=[], help="where the trace is from (repeatable)")
    parser.add_argument("--rate", type=float, default=PEAK_RATE_RPS, help="peak rate in requests/s (default: 70)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: the script's)")
    given = parser.parse_args(arguments)
    shipped = SHIPPED.get(given.name)
    title, sources = given.title, tuple(given.source)
    if shipped is not None:
        title = title or shipped.title
        sources = sources or tuple(source.format(trace=shipped.trace) for source in SHIPPED_SOURCES)
    try:
        workload = read_trace(given.trace).workload(given.name, title=title, rate_rps=given.rate)
        workload = replace(workload, cv=PLANNING_CV, sources=sources or workload.sources, note=NOTE)
        comment = "Derived by derive_workload.py (in this folder) from the trace named under sources."
        paths = save_workload(workload, given.out, comment)
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{workload.classes} classes: {', '.join(str(path) for path in paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
