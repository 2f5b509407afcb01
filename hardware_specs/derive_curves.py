"""Derive the shipped latency curves from SplitwiseSim's ``perf_model.csv``.

    python hardware_specs/derive_curves.py PATH/TO/perf_model.csv [--out FOLDER]

Writes ``<machine>__<model>.csv`` (medians of the repeats, long format), ``splitwise-sim/*.csv`` (the
published simulator's knots in full double precision) and ``provenance.yaml``. The same source gives the
same bytes. Needs the package ``provisioner`` installed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

import numpy as np

from provisioner.errors import InputError, ProvisionerError
from provisioner.perf.curves import CurveSet, fit_measured, is_run, kv_read_s_per_token
from provisioner.perf.points import COLUMNS, KNOT_COLUMNS, CurvePoint, Provenance, SimulatorKnot
from provisioner.perf.provenance import RepeatError
from provisioner.specs import catalog
from provisioner.specs.units import parse_number, parse_positive, parse_whole

MACHINES: Final = {"a100-80gb": "dgx-a100", "h100-80gb": "dgx-h100", "h100-80gb-pcap": "dgx-h100-capped"}
"""Our machine by the source's hardware name."""

ASSUMED: Final = {
    "dgx-h100-capped": (
        "not measured: the source has the prompt times of the DGX-H100 times exactly 1.3 and its token times unchanged"
    )
}
"""Assumption of the source in place of a measurement, by machine."""

TEST_SHARE: Final = 0.2
"""Share of the repeats left out at a time: the paper's 80:20 split."""
SPLITS: Final = 20
SEED: Final = 2024

SOURCE_COLUMNS: Final = (
    "model",
    "hardware",
    "tensor_parallel",
    "prompt_size",
    "batch_size",
    "token_size",
    "prompt_time",
    "token_time",
    "average_power",
    "peak_power",
)

Group = tuple[str, str, int]
Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the source: one run of a batch, its prompt and mean decode iteration in ms."""

    prompt_tokens: int
    batch: int
    generated_tokens: int
    prompt_ms: float
    decode_ms: float
    power_average_fraction: float | None
    power_peak_fraction: float | None

    @property
    def batched_tokens(self) -> int:
        """Prompt tokens of the whole batch: the published simulator's key."""
        return self.prompt_tokens * self.batch

    @property
    def context_tokens(self) -> int | float:
        """Mean context of the batch while it decoded: batch x (prompt + half of the generated tokens)."""
        context = self.batch * (self.prompt_tokens + self.generated_tokens / 2)
        return int(context) if context == int(context) else context


def read_source(path: Path) -> dict[Group, list[Run]]:
    """Runs of the source by (model, machine, tensor parallelism), in order of appearance."""
    groups: dict[Group, list[Run]] = defaultdict(list)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in SOURCE_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: row 1: missing column {', '.join(missing)}")
    for row in reader:
        where = f"{path}: row {reader.line_num}"
        if row["hardware"] not in MACHINES:
            raise InputError(f"{where}: hardware: must be {' or '.join(MACHINES)}, got {row['hardware']!r}")
        average, peak = (
            parse_number(row[field] or 0, f"{where}: {field}") or None for field in ("average_power", "peak_power")
        )
        tensor_parallel = parse_whole(row["tensor_parallel"], f"{where}: tensor_parallel", "GPUs")
        groups[row["model"], MACHINES[row["hardware"]], tensor_parallel].append(
            Run(
                prompt_tokens=parse_whole(row["prompt_size"], f"{where}: prompt_size", "tokens"),
                batch=parse_whole(row["batch_size"], f"{where}: batch_size", "sequences"),
                generated_tokens=parse_whole(row["token_size"], f"{where}: token_size", "tokens"),
                prompt_ms=parse_positive(row["prompt_time"], f"{where}: prompt_time", "ms"),
                decode_ms=parse_positive(row["token_time"], f"{where}: token_time", "ms"),
                power_average_fraction=average,
                power_peak_fraction=peak,
            )
        )
    if not groups:
        raise InputError(f"{path}: has no rows")
    return dict(groups)


def _grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def _seconds(milliseconds: float) -> float:
    """Convert milliseconds to s, rounded to the nanosecond: far below the noise, and short to read."""
    return round(milliseconds / 1000, 9)


def _median_power(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 4) if known else None


def _point(runs: Sequence[Run], provenance: Provenance, decode: bool) -> CurvePoint:
    milliseconds = [run.decode_ms if decode else run.prompt_ms for run in runs]
    return CurvePoint(
        phase="decode" if decode else "prompt",
        prompt_tokens=runs[0].prompt_tokens,
        batch=runs[0].batch,
        context_tokens=runs[0].context_tokens if decode else 0,
        latency_s=_seconds(median(milliseconds)),
        repeats=len(runs),
        min_s=_seconds(min(milliseconds)),
        max_s=_seconds(max(milliseconds)),
        provenance=provenance,
        power_average_fraction=_median_power(run.power_average_fraction for run in runs),
        power_peak_fraction=_median_power(run.power_peak_fraction for run in runs),
    )


def points_of(runs: Sequence[Run], provenance: Provenance) -> tuple[CurvePoint, ...]:
    """Medians of the repeats, by ascending work: prompt points over (prompt, batch), then decode points.

    A prompt point pools the runs of all output lengths, since its work does not depend on them.
    """
    prompt = _grouped(runs, lambda run: (run.prompt_tokens, run.batch))
    decode = _grouped(runs, lambda run: (run.batch, run.context_tokens, run.prompt_tokens))
    return (
        *(_point(prompt[key], provenance, decode=False) for key in sorted(prompt, key=lambda k: (k[0] * k[1], k))),
        *(_point(decode[key], provenance, decode=True) for key in sorted(decode)),
    )


def knots_of(runs: Sequence[Run]) -> tuple[SimulatorKnot, ...]:
    """Knots of the published simulator: medians over all runs of a key, unrounded."""
    keys = _grouped(runs, lambda run: run.batched_tokens)
    return tuple(
        SimulatorKnot(
            key,
            median(run.prompt_ms for run in keys[key]) / 1000,
            median(run.decode_ms for run in keys[key]) / 1000,
            len(keys[key]),
        )
        for key in sorted(keys)
    )


def fit_group(group: Group, points: Sequence[CurvePoint]) -> CurveSet:
    """Curves through the points of one group."""
    model, machine, tensor_parallel = group
    floor = kv_read_s_per_token(catalog.model(model), catalog.machine(machine), tensor_parallel)
    return fit_measured(points, group, floor)


def leave_out_repeats(group: Group, runs: Sequence[Run], *, splits: int = SPLITS, seed: int = SEED) -> RepeatError:
    """Error of the curves at single runs left out at random, as fractions of the measured times.

    Each split fits the curves to 80 % of the runs of one group and predicts the other 20 %, as the
    Splitwise paper does. Runs of refused points are out of both; the prompt times of batches that no
    scheduler runs are not predicted.
    """
    refused = fit_group(group, points_of(runs, "measured")).refused
    out = {(r.point.prompt_tokens, r.point.batch) for r in refused}
    sound = [run for run in runs if (run.prompt_tokens, run.batch) not in out]
    generator = np.random.default_rng(seed)
    prompt: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    decode: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    for _ in range(splits):
        order = generator.permutation(len(sound))
        cut = round(TEST_SHARE * len(sound))
        test = [sound[i] for i in order[:cut]]
        curve = fit_group(group, points_of([sound[i] for i in order[cut:]], "measured"))
        measured = np.array([[run.prompt_ms, run.decode_ms] for run in test]) / 1000
        one_run = np.array([is_run(run.prompt_tokens, run.batch) for run in test])
        prompt_s = curve.prompt_s([run.batched_tokens for run in test])
        decode_s = curve.decode_s([run.batch for run in test], [run.context_tokens for run in test])
        prompt.append(np.abs(prompt_s / measured[:, 0] - 1)[one_run])
        decode.append(np.abs(decode_s / measured[:, 1] - 1))
    return RepeatError(
        prompt_mape=round(float(np.concatenate(prompt).mean()), 4),
        prompt_max=round(float(np.concatenate(prompt).max()), 4),
        decode_mape=round(float(np.concatenate(decode).mean()), 4),
        decode_max=round(float(np.concatenate(decode).max()), 4),
    )


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fields(record: CurvePoint | SimulatorKnot) -> dict[str, object]:
    """Fields of a record; None is written as an empty field, a float in full precision."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def derive(source: Path) -> dict[str, str]:
    """Content of every shipped curve file, by its path below ``hardware_specs/curves``."""
    import yaml

    groups = read_source(source)
    files: dict[str, str] = {}
    rows: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    repeats: list[dict[str, object]] = []
    for group in sorted(groups):
        model, machine, tensor_parallel = group
        names = {"model": model, "machine": machine, "tensor_parallel": tensor_parallel}
        provenance: Provenance = "assumed" if machine in ASSUMED else "measured"
        points = points_of(groups[group], provenance)
        rows[f"{machine}__{model}.csv"] += [{**names, **_fields(point)} for point in points]
        files[f"splitwise-sim/{machine}__{model}__tp{tensor_parallel}.csv"] = _csv(
            KNOT_COLUMNS, [{**names, **_fields(knot)} for knot in knots_of(groups[group])]
        )
        repeats.append({**names, **_fields_of_error(leave_out_repeats(group, groups[group]))})
    files.update({name: _csv(COLUMNS, of_file) for name, of_file in rows.items()})
    head = {
        "title": "SplitwiseSim, data/perf_model.csv",
        "url": "https://github.com/Mutinifni/splitwise-sim",
        "file": "data/perf_model.csv",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "licence": "MIT",
        "date": "2024",
        "paper": (
            "Patel, Choukse, Zhang, Shah, Goiri, Maleki, Bianchini: Splitwise: Efficient Generative LLM"
            " Inference Using Phase Splitting, ISCA 2024, arXiv 2311.18677"
        ),
        "obtained": (
            "Measured by the paper's authors on DGX-A100 and DGX-H100 machines; 5 or more runs per point."
            " Shipped are the median, the fastest and the slowest run of each point, in seconds, and the"
            " medians of the mean and the peak power of a run as fractions of the GPU's TDP where the"
            " source has them (A100). Batches above 1 were measured with prompts of 512 and outputs of 128"
            " tokens only. The context of a decode point is its mean over the run: batch x (prompt +"
            " output / 2). Derived by hardware_specs/derive_curves.py."
        ),
        "assumed": ASSUMED,
        "splitwise_sim": (
            "The files below splitwise-sim/ are the published simulator's knots: the median over all runs"
            " of a key prompt_size x batch_size, unphysical runs included, in full double precision."
        ),
    }
    errors = {
        "leave_out_repeats": {
            "how": (
                "Fractions of the measured times. The curves are fitted to 80 % of a group's runs drawn"
                " at random and compared with each of the other 20 %; mean and largest error over all"
                " splits; runs of refused points are left out, and so are the prompt times of batches of"
                " more than 2048 tokens, which no scheduler runs and the prompt curve does not go through."
            ),
            "splits": SPLITS,
            "seed": SEED,
            "groups": repeats,
        }
    }
    files["provenance.yaml"] = "".join(
        yaml.safe_dump(part, sort_keys=False, width=110, allow_unicode=True) for part in (head, errors)
    )
    return files


def _fields_of_error(error: RepeatError) -> dict[str, float]:
    return {name: getattr(error, name) for name in error.__dataclass_fields__}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the curve files; exit code 0, or 2 with one line on a source that cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="SplitwiseSim's data/perf_model.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "curves")
    options = parser.parse_args(arguments)
    try:
        files = derive(options.source)
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, content in files.items():
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    print(f"wrote {len(files)} files below {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
