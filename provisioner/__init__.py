"""Capacity planning for LLM inference: which machines, split how between the prompt and the token phase.

>>> from provisioner import plan
>>> plan(workload="coding", slo="p99", tensor_parallel=8, fast=True).machines
16
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from provisioner.results.result import door as _door
from provisioner.version import version_of as _version_of

if TYPE_CHECKING:
    from provisioner.api import (
        capacity,
        compare,
        load_workload,
        pareto,
        plan,
        reproduce,
        sensitivity,
        simulate,
        sweep,
        vary,
    )
    from provisioner.errors import InfeasibleError, InputError, ProvisionerError
    from provisioner.options import PlanOptions, SimulateOptions
    from provisioner.results.plan import Plan
    from provisioner.results.simulation import Simulation

    __version__: str

__all__ = [
    "InfeasibleError",
    "InputError",
    "Plan",
    "PlanOptions",
    "ProvisionerError",
    "SimulateOptions",
    "Simulation",
    "__version__",
    "capacity",
    "compare",
    "load_workload",
    "pareto",
    "plan",
    "reproduce",
    "sensitivity",
    "simulate",
    "sweep",
    "vary",
]

_HOME = {
    "capacity": "provisioner.api",
    "compare": "provisioner.api",
    "pareto": "provisioner.api",
    "plan": "provisioner.api",
    "reproduce": "provisioner.api",
    "simulate": "provisioner.api",
    "sensitivity": "provisioner.api",
    "sweep": "provisioner.api",
    "vary": "provisioner.api",
    "load_workload": "provisioner.api",
    "Plan": "provisioner.results.plan",
    "Simulation": "provisioner.results.simulation",
    "PlanOptions": "provisioner.options",
    "SimulateOptions": "provisioner.options",
    "InfeasibleError": "provisioner.errors",
    "InputError": "provisioner.errors",
    "ProvisionerError": "provisioner.errors",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package costs nothing."""
    if name == "__version__":
        return _version_of()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def _reports() -> Any:
    return import_module("provisioner.report.reports").Shown()


_door.open = _reports
