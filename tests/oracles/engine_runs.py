"""Engines beside served runs and offline throughput: the part of docs/explanation/validation.md on engines.

    python -m tests.oracles.engine_runs FOLDER > docs/engines_against_runs.txt

FOLDER has dense_closed_loop.csv, vllm_closed_loop.csv, vllm_0.30_closed_loop.csv, trtllm_offline.csv and
mlperf_llama2_70b_offline.csv (docs/reference/data.md).
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final, cast

import numpy as np

from provisioner.errors import ProvisionerError
from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from provisioner.perf.memory import memory_bytes
from provisioner.perf.operators import Operators, table_files
from provisioner.specs import catalog
from provisioner.specs.engine import Engine, Execution, KernelTables
from provisioner.specs.model import ModelArchitecture
from tests.oracles.engine_text import TEXT
from tests.oracles.engines import Client, Done, simulate

MODELS: Final = {
    "Llama-3.1-70B": "llama-3.1-70b",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "Qwen3-32B": "qwen3-32b",
    "qwen3-8b": "qwen3-8b",
}
MACHINES: Final = {
    "a100": "dgx-a100",
    "h100": "dgx-h100",
    "h200": "dgx-h200",
    "b200": "dgx-b200",
    "l40s": "l40s-x8",
    "mi300x": "mi300x-x8",
}
ENGINES: Final = {"vllm": "vllm-2025", "vllm-0.30": "vllm", "sglang": "sglang", "trtllm": "tensorrt-llm"}
"""Engines that served, in the sources, with the shipped engine of each."""
DTYPES: Final = {"": "bf16", "fp4": "nvfp4", "float16": "bf16"}
KV_IN_16_BITS: Final = ("sglang", "vllm-0.30")
"""Sources whose FP8 runs keep the KV cache in 16 bits, the engines' default: their memory and gaps tell so."""

WAVES: Final = (1, 2, 5, 10)
QUEUED_S: Final = 20.0
"""TTFT from which a run overflowed its memory or its queue: such runs are apart."""

Group = tuple[str, str, str, str, int]  # engine of the source, model, type, GPU, TP

PUBLIC: Final = Client(10, 0.8, 0.0)
"""The client of the 70B rows: ten requests for each in flight, lengths uniform in 0.8 to 1.0 of the nominal."""
CHOSEN: Final[Mapping[tuple[str, str], tuple[Client, str]]] = {
    ("vllm", "Qwen3-32B"): (Client(10), "TP 2"),
    ("trtllm", "Llama-3.1-8B-Instruct"): (Client(5), "TP 1"),
    ("trtllm", "Qwen3-32B"): (Client(5), "TP 1"),
    ("sglang", "Llama-3.1-8B-Instruct"): (Client(5), "TP 1"),
    ("sglang", "Qwen3-32B"): (Client(1), "TP 4"),
}
"""Clients of the other sources, and the TP whose TTFT chose each."""
FITTED: Final = {"vllm": (4,), "trtllm": (4,)}
"""Degrees whose runs in FP8 and 16 bits an engine's constants were fitted to; of SGLang those of 8B at TP 1.

Those in NVFP4 chose the products of vLLM of 2025 in that type."""


@dataclass(frozen=True)
class Run:
    """A served run: ``tpot_s`` is the mean, of vLLM 0.30 the median gap between tokens, without a TTFT."""

    group: Group
    in_flight: int
    prompt_tokens: int
    output_tokens: int
    requests: int
    ttft_s: float
    tpot_s: float

    @property
    def shape(self) -> ModelArchitecture:
        """The model as it was served."""
        engine, model, dtype, _, _ = self.group
        kv = "bf16" if dtype == "bf16" or engine in KV_IN_16_BITS else "fp8"
        return catalog.model(MODELS[model]).in_dtype(dtype, kv)  # type: ignore[arg-type]

    @property
    def client(self) -> Client:
        """The client assumed."""
        engine, model, _, _, _ = self.group
        if self.requests:
            return Client(0, 1.0, 0.0)
        return PUBLIC if model == "Llama-3.1-70B" else CHOSEN[engine, model][0]

    def simulated(self, engine: Engine, client: Client) -> Done:
        """The run under an engine."""
        *_, gpu, degree = self.group
        return simulate(
            *(self.shape, MACHINES[gpu], degree, engine),
            in_flight=self.in_flight,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            requests=self.requests or client.waves * self.in_flight,
            client=client,
        )


def read(folder: Path) -> list[Run]:
    """All served runs; two FP8 runs of Qwen3-32B on vLLM that cannot have computed their prompts are left out."""
    runs = []
    for name in ("dense_closed_loop.csv", "vllm_closed_loop.csv"):
        for row in _rows(folder / name):
            dtype = row["precision"] or row["gemm_quant_mode"]
            group = row["backend"], row["model_path"].split("/")[-1], DTYPES.get(dtype, dtype), row["system"][:4]
            numbers = (int(float(row[key])) for key in ("concurrency", "isl", "osl"))
            times = (float(row[key]) / 1e3 for key in ("ttft_ms", "tpot_ms"))
            runs.append(Run((*group, int(float(row["tp_size"]))), *numbers, 0, *times))
    for row in _rows(folder / "vllm_0.30_closed_loop.csv"):
        numbers = (int(row[key]) for key in ("concurrency", "isl", "osl", "prompts"))
        group = "vllm-0.30", row["model"], row["dtype"], row["gpu"]
        runs.append(Run((*group, int(row["tp"])), *numbers, float("nan"), float(row["itl_median_ms"]) / 1e3))
    return [run for run in runs if run.group[:3] != ("vllm", "Qwen3-32B", "fp8")]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as stream:
        yield from csv.DictReader(stream)


def grouped(runs: Iterable[Run]) -> dict[Group, list[Run]]:
    """The runs by group."""
    groups: dict[Group, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class Errors:
    """Relative errors of TPOT (or the median gap) and of TTFT, one of each run."""

    tpot: Sequence[float]
    ttft: Sequence[float]

    @classmethod
    def of(cls, runs: Sequence[Run], engine: Engine, client: Client | None = None) -> Errors:
        """Simulate runs under an engine, with their clients unless one is given."""
        done = [run.simulated(engine, client or run.client) for run in runs]
        gap = [each.gap_s if run.requests else each.tpot_s for run, each in zip(runs, done, strict=True)]
        return cls(
            [found / run.tpot_s - 1 for run, found in zip(runs, gap, strict=True)],
            [each.ttft_s / run.ttft_s - 1 for run, each in zip(runs, done, strict=True)],
        )

    @property
    def cells(self) -> list[str]:
        """TPOT: mean size and mean; TTFT: median size."""
        ttft = median(map(abs, self.ttft))
        return [f"{100 * mean(map(abs, self.tpot)):.1f}", f"{100 * mean(self.tpot):+.1f}", f"{100 * ttft:.0f}"]


def is_fitted(group: Group) -> bool:
    """Whether an engine's constants were fitted to this group."""
    engine, model, dtype, _, degree = group
    if engine == "sglang":
        return model == "Llama-3.1-8B-Instruct" and degree == 1
    if engine == "vllm-0.30":
        return dtype == "bf16"
    return degree in FITTED[engine] and (engine, dtype) != ("trtllm", "nvfp4")


def table(runs: Sequence[Run]) -> list[str]:
    """One row per group of served runs."""
    head = ["engine", "model", "type", "GPU", "TP", "runs", "", "TPOT", "bias", "TTFT", *map(str, WAVES)]
    lines = [_row(head), _row(["---"] * len(head))]
    for group, of in grouped(runs).items():
        served, model, dtype, gpu, degree = group
        engine = catalog.engine(ENGINES[served])
        kept = [run for run in of if not run.ttft_s >= QUEUED_S]
        cells = Errors.of(kept, engine).cells
        by_waves = []
        for waves in WAVES:
            if kept[0].requests:
                by_waves.append("")
                continue
            client = Client(waves, kept[0].client.least, kept[0].client.spread)
            tpot, _, ttft = Errors.of(kept, engine, client).cells
            by_waves.append(f"{tpot}, {ttft}")
        cells[2] = "" if kept[0].requests else cells[2]
        name = [engine.name, model, dtype, gpu.upper(), str(degree), str(len(kept)), "fitted" * is_fitted(group)]
        lines.append(_row([*name, *cells, *by_waves]))
    return lines


def summary(runs: Sequence[Run]) -> list[str]:
    """Errors by engine: of runs not fitted to, the largest bias of a GPU in FP8 or 16 bits, TTFT of the 70B rows."""
    head = ["engine", "runs not fitted to", "TPOT", "largest bias of a GPU, FP8 or 16 bits", "TTFT of Llama-3.1-70B"]
    lines = [_row(head), _row(["---"] * len(head))]
    calm = [run for run in runs if not run.ttft_s >= QUEUED_S and not _overflows(run)]
    for served, name in (*ENGINES.items(), ("vllm", "vllm")):
        engine = catalog.engine(name)
        of = [run for run in calm if run.group[0] == served]
        errors = dict(zip(of, Errors.of(of, engine).tpot, strict=True))
        held = [run for run in of if name != ENGINES[served] or not is_fitted(run.group)]
        name = name if name == ENGINES[served] else f"{name} on the runs of {ENGINES[served]}"
        by_gpu: dict[tuple[str, str], list[float]] = defaultdict(list)
        for run in of:
            if run.group[2] != "nvfp4":
                by_gpu[run.group[3].upper(), run.group[2]].append(errors[run])
        (gpu, dtype), worst = max(by_gpu.items(), key=lambda pair: abs(mean(pair[1])))
        large = [run for run in of if run.group[1] == "Llama-3.1-70B"]
        ttft = f"{100 * median(map(abs, Errors.of(large, engine).ttft)):.0f}" if large else ""
        cells = [f"{len(held)} of {len(of)}", f"{100 * mean(abs(errors[run]) for run in held):.1f}"]
        lines.append(_row([name, *cells, f"{100 * mean(worst):+.1f} ({gpu}, {dtype})", ttft]))
    return lines


def served_errors(runs: Sequence[Run], served: str, engine: Engine) -> dict[tuple[str, str], tuple[int, float, float]]:
    """Number of runs and mean errors of TTFT and TPOT, by GPU and type: of runs not fitted to, if there are any."""
    calm = [run for run in runs if run.group[0] == served and not run.ttft_s >= QUEUED_S and not _overflows(run)]
    errors = Errors.of(calm, engine)
    groups: dict[tuple[str, str], list[tuple[bool, float, float]]] = defaultdict(list)
    for run, tpot, ttft in zip(calm, errors.tpot, errors.ttft, strict=True):
        fitted = engine.name == ENGINES[served] and is_fitted(run.group)
        groups[catalog.machine(MACHINES[run.group[3]]).kernels, run.group[2]].append((fitted, abs(ttft), abs(tpot)))
    means = {}
    for key, of in groups.items():
        held = [each for each in of if not each[0]] or of
        means[key] = len(held), mean(ttft for _, ttft, _ in held), mean(tpot for *_, tpot in held)
    return means


def _overflows(run: Run) -> bool:
    """Whether a run is of the group that overflows its memory with a TTFT of seconds: SGLang, 32B on one H100."""
    return run.group[:2] == ("sglang", "Qwen3-32B") and run.group[4] == 1


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- all requests at once ------------------------------------------------------------------------------------------

MOST_BATCH: Final = 2048
OFFLINE: Final = Client(1, 1.0, 0.0)
VARIED: Final = Client(1, 1.0, 0.4)
"""The same with output tokens that vary by 40 %: requests do not end in step."""
OF_TODAY: Final = ("vllm", "vllm-2025", "tensorrt-llm", "sglang")
OPEN_ORCA: Final = (294, 289)  # mean tokens of MLPerf's Llama2-70B requests


def throughput(
    model: ModelArchitecture,
    machine: str,
    degree: int,
    engine: Engine,
    prompt_tokens: int,
    output_tokens: int,
    client: Client = OFFLINE,
) -> float:
    """Output tokens/s of a replica with all requests there at once: as many as three full batches."""
    gpu = catalog.machine(machine)
    most = min(MOST_BATCH, engine.batch(gpu).batch_requests)
    done = simulate(
        *(model, machine, degree, engine),
        in_flight=3 * most,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        requests=3 * most,
        client=client,
        admission_s=0.0,
        most_batch=MOST_BATCH,
    )
    return done.tokens_per_s


def best_of_machine(machine: str, dtype: str, engine: Engine, client: Client = OFFLINE) -> tuple[float, int]:
    """Largest output tokens/s of Llama2-70B on a machine's GPUs on MLPerf's lengths, and its TP."""
    model = catalog.model("llama2-70b").in_dtype(dtype, "fp8")  # type: ignore[arg-type]
    found = []
    for degree in (1, 2, 4, 8):
        try:
            replica = throughput(model, machine, degree, engine, *OPEN_ORCA, client)
        except (ProvisionerError, IndexError):
            continue
        found.append((8 / degree * replica, degree))
    return max(found)


def offline_table(folder: Path) -> list[str]:
    """Predicted over published offline throughput, the geometric middle and range of each group."""
    engine = catalog.engine("tensorrt-llm")
    head = ["source", "model", "type", "GPU", "TP", "rows", "predicted / published: median", "from, to"]
    lines = [_row(head), _row(["---"] * len(head))]
    groups: dict[tuple[str, str, str, str, int], list[float]] = defaultdict(list)
    for row in _rows(folder / "trtllm_offline.csv"):
        gpu, dtype, degree = row["gpu"], DTYPES.get(row["dtype"], row["dtype"]), int(float(row["tp"]))
        if row["model"] not in ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"):
            continue
        model = catalog.model(row["model"]).in_dtype(dtype, "fp8")  # type: ignore[arg-type]
        lengths = int(row["isl"]), int(row["osl"])
        if sum(lengths) > 10_000:
            continue
        found = throughput(model, MACHINES[gpu], degree, engine, *lengths)
        groups[f"TensorRT-LLM {row['version']}", row["model"], dtype, gpu, degree].append(
            found / float(row["tokens_per_s"])
        )
    for (source, name, dtype, gpu, degree), ratios in sorted(groups.items()):
        cells = [source, name, dtype, gpu.upper(), str(degree), str(len(ratios))]
        lines.append(_row([*cells, f"{median(ratios):.2f}", f"{min(ratios):.2f}, {max(ratios):.2f}"]))
    return lines


MLPERF: Final = (("h100", "H100-SXM-80GB"), ("h200", "H200-SXM-141GB"), ("b200", "B200-SXM"), ("mi300x", "MI300X"))


def mlperf_table(folder: Path) -> list[str]:
    """MLPerf's Llama2-70B Offline on eight GPUs: the median of the closed entries beside two engines, best TP each."""
    head = ["GPU", "published, type", "entries", "tokens/s", "TensorRT-LLM", "TP", "vLLM", "TP"]
    lines = [_row(head), _row(["---"] * len(head))]
    for gpu, name in MLPERF:
        rows = [
            row
            for row in _rows(folder / "mlperf_llama2_70b_offline.csv")
            if name in row["accelerator"]
            and row["division"] == "closed"
            and row["nodes"] == "1"
            and row["round"] == "v5.1"
            and row["gpus"] == "8"
        ] or [
            row
            for row in _rows(folder / "mlperf_llama2_70b_offline.csv")
            if name in row["accelerator"] and row["division"] == "closed" and row["nodes"] == "1"
        ]
        kinds = {row["weights"] or "fp8" for row in rows}
        published = median(float(row["tokens_per_s"]) for row in rows)
        cells = [gpu.upper(), ", ".join(sorted(kinds)), str(len(rows)), f"{published:,.0f}"]
        for engine in ("tensorrt-llm", "vllm"):
            found, degree = best_of_machine(MACHINES[gpu], "fp8", catalog.engine(engine))
            cells += [f"{found:,.0f}", str(degree)]
        lines.append(_row(cells))
    return lines


def ratios() -> list[str]:
    """B200 over H200 on MLPerf's lengths in FP8, all at once, best TP each, by engine: equal and varied lengths."""
    lines = [_row(["engine", "B200 / H200, equal lengths", "varied lengths"]), _row(["---"] * 3)]
    for name in OF_TODAY:
        engine, cells = catalog.engine(name), []
        for client in (OFFLINE, VARIED):
            found = [best_of_machine(MACHINES[gpu], "fp8", engine, client)[0] for gpu in ("b200", "h200")]
            cells.append(f"{found[0] / found[1]:.2f}")
        lines.append(_row([name, *cells]))
    return lines


PARTS: Final = {
    "products": "gemm_s",
    "decode attention": "decode_attention_s",
    "prompt attention": "prompt_attention_s",
    "element-wise": "elementwise_s",
}
"""Methods of the operators that a part of an iteration consists of."""


@dataclass(frozen=True)
class Only:
    """The operators of a GPU, all but one of which take no time."""

    gpu: Operators
    method: str

    def __getattr__(self, name: str) -> Any:
        """The method of that name."""
        return getattr(self.gpu, name) if name in (self.method, "limits") else lambda *_, **__: np.zeros(())


def parts() -> list[str]:
    """The mean iteration of a replica of one GPU with all requests at once, in ms by part, and us a token."""
    head = ["engine", "GPU", "sequences", *PARTS, "host", "iteration, ms", "us a token"]
    lines = [_row(head), _row(["---"] * len(head))]
    shape, (prompt, output) = catalog.model("llama2-70b").in_dtype("fp8", "fp8"), OPEN_ORCA
    for name in OF_TODAY:
        engine = catalog.engine(name)
        for gpu in ("h200", "b200"):
            machine = catalog.machine(MACHINES[gpu])
            held = memory_bytes(shape, machine, 1, engine=engine)["KV cache"] / shape.kv_bytes_per_token
            each = prompt + output / (1 if engine.scheduling.admission == "reserve" else 2)
            batch = min(held / each, engine.batch(machine).batch_requests)
            work = {"prompt_tokens": prompt, "prompts": batch / output, "batch": batch}
            work["context_tokens"] = batch * (prompt + output / 2)

            def took_s(gpu: Operators, execution: Execution, work: dict[str, float] = work) -> float:
                return float(iteration_s(shape, gpu, 1, execution=execution, **work))

            operators, kernels = operators_of(machine, engine), Execution(elementwise_share=1.0)
            kernels = replace(kernels, elementwise_share=engine.execution.elementwise_share)
            times = [took_s(cast(Operators, Only(operators, method)), kernels) for method in PARTS.values()]
            whole = took_s(operators, engine.execution)
            cells = [f"{1e3 * each:.1f}" for each in (*times, max(whole - sum(times), 0.0), whole)]
            lines.append(_row([name, gpu.upper(), f"{batch:,.0f}", *cells, f"{1e6 * whole / batch:.0f}"]))
    return lines


TRIED: Final = ("vllm-0.19.0", "vllm-0.24.0", "sglang-0.5.14", "tensorrt-llm-1.3.0rc20")
"""Kernel tables that were tried in the place of an engine's."""


def choices(runs: Sequence[Run]) -> list[str]:
    """TPOT of the runs fitted to, in FP8 and NVFP4, with each of the tables in the place of an engine's on a GPU."""
    lines = [_row(["engine", "GPU", "kernels", *TRIED]), _row(["---"] * (3 + len(TRIED)))]
    for group, of in grouped(runs).items():
        served, model, dtype, gpu, _ = group
        if dtype == "bf16" or not is_fitted(group) or served == "vllm-0.30":
            continue
        engine, machine = catalog.engine(ENGINES[served]), catalog.machine(MACHINES[gpu])
        taken = operators_of(machine, engine).sources
        kinds = (("gemm", dtype), ("decode_attention", "fp8"), ("all_reduce", "graph"))
        for operator, kind in kinds if dtype == "fp8" else kinds[:1]:
            cells = []
            for table in TRIED:
                known = tuple(table.rpartition("-")[::2]) in table_files()[machine.kernels, operator, kind]
                if not known:
                    cells.append("")
                    continue
                of_table = KernelTables(
                    (table, "any"), f"gemm {kind}" if operator == "gemm" else operator, machine.kernels
                )
                other = replace(engine, kernels=(of_table, *engine.kernels))
                off = Errors.of([run for run in of if not run.ttft_s >= QUEUED_S], other).cells[0]
                cells.append(f"**{off}**" if "-".join(taken[operator, kind]) == table else off)
            name = {"gemm": f"products, {dtype}", "decode_attention": "decode attention", "all_reduce": "sums"}[
                operator
            ]
            lines.append(_row([f"{engine.name}, {model}", gpu.upper(), name, *cells]))
    return lines


def load_ratios(runs: Iterable[Run]) -> dict[Group, list[float]]:
    """TPOT of 70B over that on H200 at equal TP, lengths and requests in flight: predicted over the rows' own ratio."""
    groups = {group: of for group, of in grouped(runs).items() if group[1] == "Llama-3.1-70B"}
    found: dict[Group, list[float]] = {}
    for group, of in groups.items():
        served, model, dtype, gpu, degree = group
        others = groups.get((served, model, dtype, "h200", degree))
        if gpu == "h200" or others is None:
            continue
        engine = catalog.engine(ENGINES[served])
        by_load = {(run.in_flight, run.prompt_tokens, run.output_tokens): run for run in others}
        found[group] = []
        for run in of:
            other = by_load.get((run.in_flight, run.prompt_tokens, run.output_tokens))
            if other is None or max(run.ttft_s, other.ttft_s) >= QUEUED_S:
                continue
            mine, its = (each.simulated(engine, each.client).tpot_s for each in (run, other))
            found[group].append(mine / its / (run.tpot_s / other.tpot_s))
    return found


def at_equal_load(runs: Sequence[Run]) -> list[str]:
    """Predicted over measured ratios of TPOT, by engine, GPUs and TP."""
    lines = [_row(["engine", "type", "GPUs", "TP", "pairs", "mean", "from, to"]), _row(["---"] * 7)]
    for (served, _, dtype, gpu, degree), found in load_ratios(runs).items():
        cells = [ENGINES[served], dtype, f"{gpu.upper()} / H200", str(degree), str(len(found)), f"{mean(found):.2f}"]
        lines.append(_row([*cells, f"{min(found):.2f}, {max(found):.2f}"]))
    return lines


def orders(runs: Sequence[Run]) -> list[str]:
    """SGLang's runs with either order."""
    engine = catalog.engine("sglang")
    lines = [_row(["model", "TP", "prompts first: TPOT", "bias", "TTFT", "decodes first: TPOT", "bias", "TTFT"])]
    lines.append(_row(["---"] * 8))
    for group, of in grouped(run for run in runs if run.group[0] == "sglang").items():
        kept = [run for run in of if not run.ttft_s >= QUEUED_S]
        cells = []
        for order in ("prompt-first", "decode-first"):
            cells += Errors.of(kept, engine.with_values({"order": order})).cells
        lines.append(_row([group[1], str(group[4]), *cells]))
    return lines


def page(folder: Path) -> str:
    """The part of the page: text and tables."""
    runs = read(folder)
    found = {
        "summary": summary(runs),
        "groups": table(runs),
        "orders": orders(runs),
        "load": at_equal_load(runs),
        "ratios": ratios(),
        "parts": parts(),
        "choices": choices(runs),
        "offline": offline_table(folder),
        "mlperf": mlperf_table(folder),
    }
    return TEXT.format(**{name: "\n".join(lines) for name, lines in found.items()}) + "\n"


if __name__ == "__main__":
    print(page(Path(sys.argv[1])), end="")
