"""Derive the shipped operator tables from measured kernels.

    python hardware_specs/derive_operators.py AIC_KERNELS... VIDUR_PROFILES [--out FOLDER] [--refused FILE]

The folders AIC_KERNELS hold AIConfigurator's kernel times (``h100_sxm__gemm__vllm-0.19.0.parquet`` and so on),
VIDUR_PROFILES Vidur's profiles (``compute__h100__...__mlp.csv``). Writes
``<gpu>/<engine>-<version>__<operator>__<kind>.csv``, ``gpus.csv`` and ``provenance.yaml``. The same sources give the
same bytes. The parts are in ``kernel_rows/``.

A table holds utilisation (physical limit over measured time) at the nodes of a coarse grid, fitted to all
rows that pass the rules by least absolute deviations of the logarithm: no row of the source is in it. Rows that a
rule refuses are counted, with examples, in ``provenance.yaml``, and listed in full with ``--refused``. Needs the
package ``provisioner`` installed.
"""

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kernel_rows import aiconfigurator, vidur
from kernel_rows.estimates import cross_check, leave_one_out
from kernel_rows.fits import errors, fit, nodes_of
from kernel_rows.gpus import GPUS, VIDUR, Gpu
from kernel_rows.ring import ABOUT, RATE_BYTES_PER_S, RING, SLOW_HOST, refuse_slow_host, ring_table
from kernel_rows.rules import (
    COLD_BYTES,
    FALL,
    FEW,
    HOST_S,
    IMPOSSIBLE_SHARE,
    LAUNCH_S,
    NARROWEST,
    SLOWER,
    SUSTAINED_QUANTILE,
    Rows,
    check,
)

from provisioner.errors import InputError, ProvisionerError
from provisioner.perf.operators import AXES, LIMIT_COLUMNS, GridTable, Measured, usual_tables
from provisioner.specs.kernels import KINDS, Source, preferred

PRODUCTS = ("gemm", "bf16")  # a GPU without them is estimated itself
Penalties = dict[str, dict[str, float]]  # by software: cost of unaligned products


def rows_of(
    gpu: Gpu, aic: Sequence[Path], profiles: Path, of_others: Mapping[str, Sequence[Rows]]
) -> tuple[list[Rows], Penalties]:
    """All rows of one GPU, checked, and the cost of unaligned products; ``of_others`` has the rows of earlier GPUs."""
    found: list[Rows] = []
    penalties: Penalties = {}
    for source in gpu.software:
        if not aiconfigurator.paths_of(aic, gpu, source):
            raise InputError(f"{', '.join(map(str, aic))}: has no kernels of {' '.join(source)} on {gpu.name}")
        products, penalty = aiconfigurator.gemms(aic, gpu, source)
        penalties |= {"-".join(source): penalty} if penalty else {}
        found += products
        for read in (aiconfigurator.prompt_attention, aiconfigurator.decode_attention, aiconfigurator.all_reduce):
            found += read(aic, gpu, source)
    if gpu.vidur:
        if not gpu.aic:
            frame = vidur.gemms(profiles, gpu)
            aligned = aiconfigurator.is_aligned(frame["m"].to_numpy(dtype=np.float64))
            found.append(aiconfigurator.gemm_rows(frame[aligned], gpu, VIDUR, "bf16"))
        found += vidur.elementwise(profiles, gpu)
    wide: dict[Source, Rows] = {}
    same = next((other.limits for other in GPUS if other.name == gpu.limits.same_chip_as), gpu.limits)
    slower = same.memory_bytes_per_s < gpu.limits.memory_bytes_per_s
    lesser = {(rows.source, rows.operator, rows.kind): rows for rows in of_others.get(same.name, ()) if slower}
    for rows in found:
        wider = wide.get(rows.source) if rows.operator == "gemm" else None
        check(rows, wider, lesser.get((rows.source, rows.operator, rows.kind)))
        if rows.operator == "gemm":
            wide.setdefault(rows.source, rows)
        if rows.operator == "all_reduce" and gpu.limits.link == "pcie":
            refuse_slow_host(rows)
    return found, penalties


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def table_rows(table: GridTable) -> Iterable[list[str]]:
    """Rows of a table's CSV file: one size per axis, utilisation."""
    for index in np.ndindex(table.utilisation.shape):
        sizes = [f"{axis[i]:.0f}" for axis, i in zip(table.axes, index, strict=True)]
        yield [*sizes, f"{table.utilisation[index]:.4g}"]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def derive(
    aic: Sequence[Path], profiles: Path, gpus: Sequence[Gpu] = GPUS, refused: list[Sequence[object]] | None = None
) -> dict[str, str]:
    """Content of every file, by its name below ``hardware_specs/operators``.

    Rows that a rule refuses are added to ``refused``: GPU, software, operator, rule, problem, factor.
    """
    files: dict[str, str] = {}
    found: dict[str, Any] = {}
    checked: dict[str, Sequence[Rows]] = {}
    measured: dict[str, Measured] = {}
    for gpu in gpus:
        checked[gpu.name], penalties = rows_of(gpu, aic, profiles, checked)
        tables: dict[tuple[str, str], dict[Source, GridTable]] = {}
        entries: dict[str, dict[str, Any]] = {}
        for rows in checked[gpu.name]:
            name, source = f"{rows.operator} {rows.kind}", "-".join(rows.source)
            if refused is not None:
                refused += [(gpu.name, source, name, rule, problem, f"{x:.3g}") for rule, problem, x in rows.listed]
            entry: dict[str, Any] = {"rows": rows.rows}
            if rows.used.any():
                table = fit(nodes_of(rows), rows.sizes[rows.used], rows.utilisation[rows.used])
                tables.setdefault((rows.operator, rows.kind), {})[rows.source] = table
                content = _csv((*AXES[rows.operator], "utilisation"), table_rows(table))
                files[f"{gpu.name}/{source}__{rows.operator}__{rows.kind}.csv"] = content
                entry |= errors(table, rows)
            entries.setdefault(source, {})[name] = entry | ({"refused": rows.rules} if rows.rules else {})
        if gpu.limits.link == "pcie":
            for launch in KINDS["all_reduce"]:
                table = ring_table(gpu.limits)
                tables.setdefault(("all_reduce", launch), {})[RING] = table
                content = _csv((*AXES["all_reduce"], "utilisation"), table_rows(table))
                files[f"{gpu.name}/{'-'.join(RING)}__all_reduce__{launch}.csv"] = content
                entries.setdefault("-".join(RING), {})[f"all_reduce {launch}"] = ABOUT
        found[gpu.name] = {"limits": gpu.origin, "tables": entries}
        if penalties:
            found[gpu.name]["unaligned_products"] = penalties
        chosen = {key: preferred(of, usual_tables(), gpu.name, *key) for key, of in tables.items()}
        measured[gpu.name] = gpu.limits, {key: tables[key][source] for key, source in chosen.items() if source}
    for gpu in gpus:
        if gpu.aic and gpu.vidur:
            found[gpu.name]["vidur_products_over_table"] = cross_check(gpu, profiles, measured)
        if len(measured) == len(GPUS):
            left_out = leave_one_out(gpu, {name: each for name, each in measured.items() if PRODUCTS in each[1]})
            found[gpu.name]["estimated_from_others"] = left_out
    files["gpus.csv"] = _csv(
        LIMIT_COLUMNS,
        ([value if isinstance(value, str) else f"{value:g}" for value in astuple(gpu.limits)] for gpu in gpus),
    )
    head = {
        "sources": [
            {
                "title": "AIConfigurator, performance database",
                "url": "https://github.com/ai-dynamo/aiconfigurator",
                "licence": "Apache-2.0",
                "software": "by GPU, below tables",
                "sha256_of_files": _digest(path for gpu in gpus for path in aiconfigurator.used(aic, gpu)),
            },
            {
                "title": "Vidur, compute profiles",
                "url": "https://github.com/microsoft/vidur",
                "licence": "MIT",
                "paper": "Agrawal et al., Vidur: A Large-Scale Simulation Framework for LLM Inference, MLSys 2024",
                "sha256_of_files": _digest(profiles.glob("compute__*.csv")),
            },
        ],
        "obtained": (
            "Utilisation is the physical limit over the measured time. Each table is fitted to all rows that pass"
            " the rules, by least absolute deviations of its logarithm at the nodes of a coarse grid, and rounded;"
            " nodes that few rows support continue the others, up to the best row."
            " error_* are of the table against the rows it was fitted to, left_out_* of a table fitted to a random half"
            " of them against the other half. Products are of row counts up to 16 or a"
            " multiple of 16; unaligned_products has the median factor by which one row more is slower (n and k of"
            " 1024 or more). Derived by hardware_specs/derive_operators.py."
        ),
        "rules": {
            "kernel that waits for the host": (
                f"all rows refused if the shortest takes more than {1e6 * HOST_S:g} us: a launch, not a kernel"
                " (all-reduces launched one by one are a kind of their own)"
            ),
            "counts its inputs' quantization": (
                f"fp8 products whose smallest problem takes {1e6 * LAUNCH_S:g} us more than in 16 bits (median of"
                f" up to {FEW} rows), but of vLLM 0.14 and 0.19: what those of {NARROWEST} columns take more than in"
                " 16 bits, by rows and depth, is taken off, since a checkpoint brings the scales and the kernels"
                " before a product quantize its inputs"
            ),
            "beyond the arithmetic peak": (
                f"refused; all rows of a kernel where more than {IMPOSSIBLE_SHARE:.0%} of them are: it did other work"
            ),
            "faster than memory sustains": (
                f"memory-bound rows above what {SUSTAINED_QUANTILE:.0%} of those beyond {COLD_BYTES / 1e6:g} MB"
                " reach: operands were in the cache, which in service they are not; that rate is used instead"
                " (counted where they are beyond the bandwidth itself)"
            ),
            "sums over PCIe of one slow host": (
                f"all refused if the median sum of 1 MiB or more over 4 and 8 GPUs takes more than {SLOW_HOST:g} times"
                f" a ring at {RATE_BYTES_PER_S / 1e9:g} GB/s, which is taken in place: all engines were measured on it"
            ),
            "slower than a larger problem": f"refused above {FALL:g} times and {1e6 * LAUNCH_S:g} us more",
            "slower than a wider type": (
                f"above {SLOWER:g} times and {1e6 * LAUNCH_S:g} us more, fp8 products of vLLM 0.14 and 0.19 take the"
                " time of bf16; others keep theirs, for an engine does not choose the type by product"
            ),
            "slower than the same chip with less memory bandwidth": (
                f"above {SLOWER:g} times and {1e6 * LAUNCH_S:g} us more, the time of that chip is used instead"
                " (H200 after H100)"
            ),
        },
    }
    files["provenance.yaml"] = yaml.safe_dump(head | {"gpus": found}, sort_keys=False, width=110, allow_unicode=True)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables; exit code 0, or 2 with one line on a source that cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("aic", type=Path, nargs="+", help="folders of AIConfigurator's kernel times (parquet)")
    parser.add_argument("vidur", type=Path, help="folder of Vidur's profiles (CSV)")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "operators")
    parser.add_argument("--refused", type=Path, help="also list every row that a rule found, as CSV")
    options = parser.parse_args(arguments)
    refused: list[Sequence[object]] = []
    try:
        files = derive(options.aic, options.vidur, refused=refused)
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, content in files.items():
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    if options.refused:
        options.refused.write_text(
            _csv(("gpu", "software", "operator", "rule", "problem", "factor"), refused), encoding="utf-8"
        )
    print(f"wrote {len(files)} files below {options.out}; the rules found {len(refused)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
