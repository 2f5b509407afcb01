"""Offline throughput of one replica with all requests at once, in closed form: a test oracle only.

As many requests are in flight as the KV cache holds in full, n = capacity / (input + output tokens). Each iteration
decodes all n at their mean context and computes the n / output prompts that take the place of those that end:

    requests/s = n / output / iteration_s(n / output prompts, n sequences)

    python -m tests.oracles.offline FOLDER

compares it with NVIDIA's overview of TensorRT-LLM on L40S and with MLPerf's Llama2-70B Offline, whose files FOLDER
holds (``trtllm_offline.csv``, ``mlperf_llama2_70b_offline.csv``).
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from provisioner.errors import ModelDoesNotFitError
from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from provisioner.perf.memory import kv_capacity_tokens
from provisioner.specs import catalog
from provisioner.specs.engine import Execution
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture

HOST: Final = Execution(iteration_s=0.3e-3)
"""Time of the host: that of an iteration, none of a sequence, as no server streams tokens."""
MOST_SEQUENCES: Final = 2048
MLPERF_TOKENS: Final = 294, 289  # mean input and output tokens of its Llama2-70B requests
MLPERF: Final = {"dgx-h100": "NVIDIA H100-SXM-80GB", "dgx-h200": "NVIDIA H200-SXM-141GB", "mi300x-x8": "MI300X"}
"""Accelerators of MLPerf by machine, as its files name them."""


def requests_per_s(model: ModelArchitecture, machine: Machine, tensor_parallel: int, tokens: tuple[int, int]) -> float:
    """Requests/s of a whole machine at one degree, of ``tokens`` input and output; 0 if the model does not fit."""
    inputs, outputs = tokens
    try:
        held = kv_capacity_tokens(model, machine, tensor_parallel)
    except ModelDoesNotFitError:
        return 0.0
    batch = min(held / (inputs + outputs), MOST_SEQUENCES)
    seconds = iteration_s(
        model,
        operators_of(machine),
        tensor_parallel,
        prompt_tokens=inputs,
        prompts=batch / outputs,
        batch=batch,
        context_tokens=batch * (inputs + outputs / 2),
        execution=HOST,
    )
    return machine.gpus // tensor_parallel * batch / outputs / float(seconds)


def trtllm_ratios(path: Path, tensor_parallel: int) -> Iterator[float]:
    """Predicted over published tokens/s of every run on L40S at one degree."""
    machine = catalog.machine("l40s-x8")
    for row in csv.DictReader(path.open(encoding="utf-8")):
        if (row["gpu"], row["tp"]) == ("l40s", str(tensor_parallel)):
            model = catalog.model(row["model"]).in_dtype("fp8", "fp8")
            tokens = int(row["isl"]), int(row["osl"])
            of_machine = requests_per_s(model, machine, tensor_parallel, tokens)
            yield of_machine * tokens[1] / (machine.gpus // tensor_parallel) / float(row["tokens_per_s"])


def mlperf_ratio(path: Path, name: str) -> float:
    """Predicted requests/s at the best degree over the median of MLPerf v5.1 (H100: v4.1), on one machine of 8 GPUs."""
    model = catalog.model("llama2-70b").in_dtype("fp8", "fp8")
    best = max(requests_per_s(model, catalog.machine(name), degree, MLPERF_TOKENS) for degree in (1, 2, 4, 8))
    rows = [
        row
        for row in csv.DictReader(path.open(encoding="utf-8"))
        if MLPERF[name] in row["accelerator"]
        and "(" not in row["accelerator"]
        and (row["nodes"], row["division"]) == ("1", "closed")
        and row["round"] == ("v4.1" if name == "dgx-h100" else "v5.1")
    ]
    return best / median(float(row["samples_per_s"]) for row in rows)


def main(folder: Path) -> None:
    """Print the ratios."""
    for degree in (1, 4):
        ratios = sorted(trtllm_ratios(folder / "trtllm_offline.csv", degree))
        print(f"L40S at TP {degree}: {ratios[0]:.2f} to {ratios[-1]:.2f}, median {median(ratios):.2f}")
    for name in MLPERF:
        print(f"{name}: {mlperf_ratio(folder / 'mlperf_llama2_70b_offline.csv', name):.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
