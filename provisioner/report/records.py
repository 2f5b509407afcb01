"""Files of a simulation beside its result: every request in a table, and a picture of the machines.

``docs/reference/cli.md``, *The records of a simulation*, has the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.files import check_writable
from provisioner.files import write_files as write_all
from provisioner.spelling import spelled

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    from provisioner.simulation.run import Run

RECORDS: Final = (".parquet", ".csv")
PICTURES: Final = (".png", ".svg", ".pdf")


def check_files(records: str | None, timeline: str | None) -> None:
    """Refuse files of records and of a timeline that cannot be written, or whose ending says no known format."""
    for name, what, endings in ((records, spelled("records"), RECORDS), (timeline, spelled("timeline"), PICTURES)):
        if name is not None:
            if Path(name).suffix.lower() not in endings:
                raise InputError(f"{what} {name}: must end in {', '.join(endings)}, which says the format")
            check_writable(name, what)


def write_files(
    runs: Sequence[Run], records: str | None, timeline: str | None, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Write the records of all runs and the timeline of the first, by their names; both or none."""
    contents: dict[str, Callable[[str], None]] = {}
    if records is not None:
        contents[records] = partial(_write_records, runs, Path(records).suffix.lower())
    if timeline is not None:
        from provisioner.report.charts import write_chart
        from provisioner.report.timeline import figure

        contents[timeline] = lambda path: write_chart(figure(runs[0]), Path(timeline).suffix.lower()[1:], path)
    if contents:
        progress(f"writing {' and '.join(contents)}")
        given = {spelled("records"): records, spelled("timeline"): timeline}
        write_all(contents, " and ".join(option for option, name in given.items() if name))


def _write_records(runs: Sequence[Run], ending: str, path: str) -> None:
    """The records of all runs as parquet or CSV, set by set."""
    import pyarrow.csv
    import pyarrow.parquet

    kind = pyarrow.parquet.ParquetWriter if ending == ".parquet" else pyarrow.csv.CSVWriter
    first = records_table(runs[0])
    with kind(path, first.schema) as writer:
        writer.write_table(first)
        for k, run in enumerate(runs[1:], start=1):
            writer.write_table(records_table(run, k))


def records_table(run: Run, set_number: int = 0) -> pyarrow.Table:
    """The requests of one run as a pyarrow table."""
    import pyarrow

    this, latencies = run.requests, run.latencies
    first_s, last_s = latencies.first_s, latencies.last_s
    with np.errstate(divide="ignore", invalid="ignore"):
        tbt_s = np.where(latencies.tbt_divisor > 0.0, (last_s - first_s) / latencies.tbt_divisor, np.nan)
    gap_s = np.where((latencies.output_tokens > 1) & ~np.isnan(last_s), latencies.largest_gap_s, np.nan)
    times = {
        "ttft": (first_s - latencies.arrival_s, latencies.reference_ttft_s),
        "tbt": (tbt_s, latencies.reference_tbt_s),
        "largest_gap": (gap_s, latencies.reference_tbt_s),
        "e2e": (last_s - latencies.arrival_s, latencies.reference_e2e_s),
    }
    values: dict[str, pyarrow.Array] = {
        "set": np.full(this.size, set_number, dtype=np.int32),
        "request": np.arange(this.size),
        "arrival_s": latencies.arrival_s,
        "prompt_tokens": run.prepared.requests.prompt_tokens,
        "output_tokens": latencies.output_tokens,
        "measured": latencies.counted,
        "prompt_machine": _machines(run, this["prompt_at"]),
        "token_machine": _machines(run, this["token_at"]),
        "first_token_s": first_s,
        "last_token_s": last_s,
        **{f"{name}_s": time_s for name, (time_s, _) in times.items()},
        **{f"{name}_slowdown": time_s / reference_s for name, (time_s, reference_s) in times.items()},
        "preemptions": this["interrupted"],
        "restarts": this["restarts"],
    }
    for name, array in values.items():
        if isinstance(array, np.ndarray):  # NaN is a missing value
            values[name] = pyarrow.array(np.ascontiguousarray(array), from_pandas=True)
    return pyarrow.table(values)


def _machines(run: Run, replicas: NDArray[np.int64]) -> pyarrow.Array:
    """The machines of replicas by name; none for a request that was never given to one."""
    import pyarrow

    from provisioner.simulation.records import HELD, NOT_ARRIVED

    state = run.requests["state"]
    nowhere = (state == HELD) | (state == NOT_ARRIVED)
    machine = run.replicas["machine"][np.where(nowhere, 0, replicas)]
    return pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(machine.astype(np.int32), mask=nowhere), pyarrow.array(run.cluster.machine_names)
    )
