"""State of a GPU from nvidia-smi; empty if nvidia-smi is missing."""

import csv
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from provisioner.profiling.torch_import import import_torch

FACTS: Final = {
    "name": "name",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "power_limit_w": "power.limit",
    "max_sm_clock_mhz": "clocks.max.sm",
    "max_memory_clock_mhz": "clocks.max.mem",
}
"""Constant properties of a GPU: fields of nvidia-smi by the name under which they are recorded."""

STATE: Final = {
    "sm_clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
}
"""Properties that change under load: fields of nvidia-smi by recorded name."""

_TIMEOUT_S: Final = 20

Values = dict[str, str | float]  # values of nvidia-smi by recorded name, numbers as floats


def uuid_of(device: int) -> str | None:
    """UUID of a GPU, by which nvidia-smi knows it whatever ``CUDA_VISIBLE_DEVICES`` says."""
    uuid = getattr(import_torch().cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"


def query(wanted: dict[str, str], uuid: str | None) -> Values:
    """Values of one GPU; fields that nvidia-smi does not know are left out."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    which = [] if uuid is None else ["-i", uuid]
    asked = [command, *which, f"--query-gpu={','.join(wanted.values())}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    rows = list(csv.reader(done.stdout.splitlines(), skipinitialspace=True))
    if not rows or len(rows[0]) != len(wanted):
        return {}
    values: Values = {}
    for name, text in zip(wanted, map(str.strip, rows[0]), strict=True):
        if text and text[0] != "[":  # [N/A], [Not Supported]
            values[name] = text
            with suppress(ValueError):
                values[name] = float(text)
    return values


def ranges(states: Sequence[Values]) -> dict[str, dict[str, float]]:
    """Lowest and highest of each number over several states.

    >>> ranges([{"power_w": 300.0}, {"power_w": 650.0}])
    {'power_w': {'lowest': 300.0, 'highest': 650.0}}
    """
    values = {name: [x for state in states if isinstance(x := state.get(name), float)] for name in STATE}
    return {name: {"lowest": min(each), "highest": max(each)} for name, each in values.items() if each}
