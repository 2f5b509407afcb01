"""Workloads of published numbers, for which no trace is available: distributions of lengths with their sources.

    python workloads/parametric_workloads.py [--name rag] [--out FOLDER]

Each is a distribution with published or fitted parameters, cut into bins as the lengths of a trace are. Nothing is
drawn at random: lengths are quantiles at the points of a fixed sequence, so that the same numbers give the same bytes.
A workload's note and docs/reference/data.md say which of its numbers are published, fitted and assumed.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from provisioner.errors import ProvisionerError
from provisioner.specs.schema import save_workload
from provisioner.specs.workload import Workload, from_lengths

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

POINTS: Final = 20_000
"""Requests that represent a distribution: with the bins, P50, P90 and P99 are within 1 % of its own (tested)."""

Z90: Final = 1.2815515655446004
"""90th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Token counts: median, standard deviation of their natural logarithm, and the limits that they are held to."""

    median: float
    sigma: float
    least: int = 1
    most: int = 1_000_000

    @classmethod
    def of(cls, median: float, p90: float, least: int = 1, most: int = 1_000_000) -> "LogNormal":
        """Log-normal with a given median and 90th percentile: sigma = ln(p90 / median) / z(0.9)."""
        return cls(median, float(np.log(p90 / median) / Z90), least, most)

    @classmethod
    def with_mean(cls, median: float, mean: float, least: int = 1, most: int = 1_000_000) -> "LogNormal":
        """Log-normal with a given median and mean: mean = median x exp(sigma^2 / 2)."""
        return cls(median, float(np.sqrt(2.0 * np.log(mean / median))), least, most)

    def at(self, u: FloatArray) -> IntArray:
        """Quantiles at ``u`` of shape (n,): median x exp(sigma z(u)), rounded to tokens and held to the limits."""
        tokens = np.rint(self.median * np.exp(self.sigma * ndtri(u)))
        return np.clip(tokens, self.least, self.most).astype(np.int64)


def spread(n: int, dimensions: int) -> FloatArray:
    """Points of shape (dimensions, n) that fill the unit cube evenly.

    Coordinate j of point i is the fraction of 1/2 + i / g^j, with g the positive root of g^(dimensions + 1) = g + 1
    (Roberts, The Unreasonable Effectiveness of Quasirandom Sequences, 2018).
    """
    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    return (0.5 + np.outer(steps, np.arange(1, n + 1))) % 1.0


POISSON = "Poisson arrivals; rate_rps is a round number to plan for, not a measurement."

SUMMARISATION_MOST: Final = 16_384
# Solved so that the prompts left after the cut have the published P50 and P90 (tested).
SUMMARISATION_PROMPT: Final = LogNormal(7886, 0.6504)
SUMMARISATION_OUTPUT: Final = LogNormal.of(208, 371)


def summarisation() -> tuple[Workload, int]:
    """Prompts and outputs of the arXiv summarisation dataset, and the number of their points."""
    u, v = spread(POINTS, 2)
    prompt, output = SUMMARISATION_PROMPT.at(u), SUMMARISATION_OUTPUT.at(v)
    kept = prompt + output <= SUMMARISATION_MOST
    workload = from_lengths(
        "summarisation",
        prompt[kept],
        output[kept],
        title="Summarisation: arXiv articles to abstracts",
        rate_rps=10.0,
        sources=(
            "Agrawal et al., Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve, OSDI 2024, "
            "datasets: arxiv_summarization, prompts of 7,059 tokens at P50 and 12,985 at P90, outputs of 208 and 371; "
            "requests of up to 16,384 tokens",
            "dataset: Cohan et al., NAACL 2018 (arXiv 1804.05685)",
        ),
        note=(
            "Parametric: prompt and output are log-normal, independent of each other, cut where both together exceed "
            "16,384 tokens, and have the published P50 and P90 after the cut. The prompts' standard deviation comes "
            "out as 3,590 tokens (published 3,638), the outputs' as about 110 (published 265): a few long abstracts "
            f"are left out. {POISSON}"
        ),
    )
    return workload, int(kept.sum())


RAG_PARTS: Final = (  # share of requests, prompt, output
    (0.76, LogNormal(3270, 0.126, least=1050, most=7710), LogNormal(222, 0.63, least=7, most=2180)),
    (0.24, LogNormal(1208, 0.157, least=1050, most=7710), LogNormal(115, 0.59, least=7, most=2180)),
)


def rag() -> tuple[Workload, int]:
    """Questions with and without retrieved passages, and the number of their points."""
    prompts, outputs = [], []
    for share, prompt_tokens, output_tokens in RAG_PARTS:
        u, v = spread(round(POINTS * share), 2)
        prompts.append(prompt_tokens.at(u))
        outputs.append(output_tokens.at(v))
    workload = from_lengths(
        "rag",
        np.concatenate(prompts),
        np.concatenate(outputs),
        title="Retrieval-augmented answers: questions with retrieved passages",
        rate_rps=10.0,
        sources=(
            "Wang et al., RAGPulse: An Open-Source RAG Workload Trace, 2025 (arXiv 2511.12979), "
            "github.com/flashserve/RAGPulse, MIT: 7,106 requests of a university's question service, prompts of 1,050 "
            "to 7,710 tokens, outputs of 7 to 2,180",
            "parameters: geometric means and spreads of 119 of its requests (two stretches of its first trace file)",
        ),
        note=(
            "Parametric: 76 % of the requests carry passages (prompt log-normal around 3,270 tokens, output around "
            "222), the others a system prompt and history only (1,208 and 115). The parameters are of 119 requests, "
            "91 of them with passages: two standard errors are 3 % of the median prompt and 13 % of the median output "
            "with passages, 6 and 23 % without, as far as two stretches stand for the trace. Prompt and output are "
            "taken as independent within either kind. System prompts and popular passages repeat; how much was not "
            f"counted. {POISSON}"
        ),
    )
    return workload, sum(part.size for part in prompts)


AGENT_MOST_TOKENS: Final = 128_000
AGENT_OUTPUT: Final = LogNormal.with_mean(250, 523, most=32_000)
STEPS_PER_POINT: Final = 10
K: Final = 1024
# A provider's largest context; cached prefix from and to (tokens), steps, P50 and P90 of the tokens appended to it.
AGENT_STEPS: Final = {
    1_000_000: (  # Claude Code
        (1, 1 * K, 2_937, 78_400, 344_300),
        (4 * K, 8 * K, 530, 17_200, 385_300),
        (8 * K, 16 * K, 4_034, 3_500, 108_500),
        (16 * K, 32 * K, 10_248, 1_300, 30_700),
        (32 * K, 64 * K, 20_919, 951, 5_300),
        (64 * K, 128 * K, 33_571, 793, 3_700),
        (128 * K, 256 * K, 34_840, 710, 3_200),
        (256 * K, 1000 * K, 33_257, 762, 3_100),
    ),
    272_000: (  # Codex
        (1, 1 * K, 626, 124_300, 210_700),
        (1 * K, 2 * K, 90, 4_300, 63_900),
        (2 * K, 4 * K, 2_108, 20_800, 168_700),
        (4 * K, 8 * K, 3_501, 25_700, 172_400),
        (8 * K, 16 * K, 5_503, 2_900, 84_700),
        (16 * K, 32 * K, 10_470, 1_900, 18_800),
        (32 * K, 64 * K, 29_925, 954, 8_300),
        (64 * K, 128 * K, 72_996, 796, 6_100),
        (128 * K, 256 * K, 91_598, 771, 5_300),
    ),
}


def agent_steps() -> tuple[IntArray, IntArray, IntArray]:
    """Cached prefix, appended and output tokens of all steps, each of shape (n,): one in ten of the published."""
    prefixes, appended, outputs = [], [], []
    for most, bins in AGENT_STEPS.items():
        for low, high, steps, p50, p90 in bins:
            u, v, w = spread(max(round(steps / STEPS_PER_POINT), 1), 3)
            prefix = np.rint(low * (high / low) ** u).astype(np.int64)
            prefixes.append(prefix)
            appended.append(np.minimum(LogNormal.of(p50, p90).at(v), np.maximum(most - prefix, 1)))
            outputs.append(AGENT_OUTPUT.at(w))
    return np.concatenate(prefixes), np.concatenate(appended), np.concatenate(outputs)


def agents() -> tuple[Workload, int]:
    """Steps of coding agents with prompts up to 128,000 tokens, and the number of their points."""
    prefix, appended, output = agent_steps()
    kept = prefix + appended <= AGENT_MOST_TOKENS
    prompt = (prefix + appended)[kept]
    workload = from_lengths(
        "agents",
        prompt,
        output[kept],
        title="Coding agents: steps of Claude Code and Codex sessions, prompts up to 128,000 tokens",
        rate_rps=5.0,
        context_share_reused=round(float(prefix[kept].sum() / prompt.sum()), 3),
        sources=(
            "Zhu et al., TraceLab: Characterizing Coding Agent Workloads for LLM Serving, 2026 (arXiv 2606.30560), "
            "tracelab.cs.washington.edu, CC-BY 4.0, first release: 357,161 steps, 54.9 x 10^9 input tokens (52.6 x "
            "10^9 of them cached), 186.9 x 10^6 output tokens; steps and appended tokens (P50, P90) by length of "
            "the cached prefix",
        ),
        note=(
            "Parametric: a step's prompt is a cached prefix (steps counted in doubling bins, log-uniform inside a bin) "
            "and appended tokens (log-normal through the published P50 and P90 of the bin). Output has the published "
            "mean of 523 tokens; that it is log-normal with a median of 250 is an assumption, and so is that it has "
            "nothing to do with the prompt. Only steps with prompts up to 128,000 tokens are kept, 52 % of them. "
            "context_share_reused is the share of the prompt tokens that the services had cached: prefix caching is "
            "not modelled here, so a plan for this workload is that of a cluster without it, which is far more than "
            f"such services need. {POISSON}"
        ),
    )
    return workload, int(kept.sum())


WORKLOADS: Final[dict[str, Callable[[], tuple[Workload, int]]]] = {
    "summarisation": summarisation,
    "rag": rag,
    "agents": agents,
}


def main(arguments: list[str]) -> int:
    """Write the workloads; exit code 0, or 2 with one line on the error."""
    parser = argparse.ArgumentParser(description="Write the workloads that are made of published numbers.")
    parser.add_argument("--name", choices=tuple(WORKLOADS), help="one of them (default: all)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: the script's)")
    given = parser.parse_args(arguments)
    if not given.out.is_dir():
        print(f"--out {given.out}: must be a folder that exists", file=sys.stderr)
        return 2
    try:
        for name in [given.name] if given.name else WORKLOADS:
            workload, points = WORKLOADS[name]()
            comment = "Computed by parametric_workloads.py (in this folder) from the numbers named under sources."
            paths = save_workload(workload, given.out, comment, points)
            print(f"{name}: {workload.classes} classes: {', '.join(str(path) for path in paths)}")
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
