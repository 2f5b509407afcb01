"""Published numbers of the Splitwise paper on its cluster designs, and the machines behind them.

Patel, Choukse, Zhang, Shah, Goiri, Maleki, Bianchini: Splitwise: Efficient Generative LLM Inference Using Phase
Splitting, ISCA 2024 (arXiv 2311.18677).
"""

from collections.abc import Mapping
from typing import Final

SOURCE: Final = "Patel et al., Splitwise: Efficient Generative LLM Inference Using Phase Splitting, ISCA 2024"
MODEL: Final = "bloom-176b"
ENGINE: Final = "provisioner-0.1"
"""Engine with the paper's thresholds, and the memory of ``splitwise``; chunked prefill beside them is decode-first."""
POLICY: Final = "splitwise"
RATE_RPS: Final = 70.0
"""The load of Fig. 12, in requests/s."""

DESIGNS: Final = ("baseline-a100", "baseline-h100", "splitwise-aa", "splitwise-hh", "splitwise-ha", "splitwise-hhcap")
BUDGET: Final = "40 dgx-h100"  # the power, or the cost, that all designs may use
Sizes = tuple[int, ...]

FIG_12: Final[Sizes] = (27, 3)
ISO_POWER_CODING: Final[Mapping[str, Sizes]] = {"Splitwise-AA": (55, 15), "Splitwise-HH": (35, 5)}
ISO_POWER_CONVERSATION: Final[Mapping[str, Sizes]] = {
    "Baseline-A100": (70,),
    "Baseline-H100": (40,),
    "Splitwise-AA": (45, 25),
    "Splitwise-HH": (25, 15),
    "Splitwise-HA": (25, 26),
    "Splitwise-HHcap": (25, 21),
}
ISO_COST_CONVERSATION: Final[Mapping[str, Sizes]] = {
    "Baseline-A100": (86,),
    "Baseline-H100": (40,),
    "Splitwise-AA": (51, 35),
    "Splitwise-HH": (25, 15),
    "Splitwise-HA": (30, 21),
    "Splitwise-HHcap": (30, 10),
}
CHANGED_WORKLOAD_LOSS: Final[Mapping[str, float]] = {
    "Splitwise-AA": 0.0,
    "Splitwise-HH": 0.0,
    "Splitwise-HA": 0.07,
    "Splitwise-HHcap": 0.07,
}
ISO_THROUGHPUT_BEST: Final[Mapping[str, str]] = {"power": "Splitwise-HHcap", "cost": "Splitwise-AA"}
"""The design with the least power, or cost, at the same throughput."""

GPUS: Final = 8  # GPUs of every machine of the paper

BATCH_RPS_PER_USD: Final[Mapping[str, float]] = {
    "Baseline-A100": 0.89,
    "Splitwise-AA": 0.89,
    "Baseline-H100": 0.75,
    "Splitwise-HH": 0.75,
}
"""Requests/s for a dollar an hour; the paper counts the dollars of one GPU of each machine."""
