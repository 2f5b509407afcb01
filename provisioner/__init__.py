"""Capacity planning for LLM inference: which machines, split how between the prompt and the token phase.

>>> from provisioner import plan
>>> plan(workload="coding", slo="p99", tensor_parallel=8, fast=True).machines
16
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from provisioner.results.loader import reports as _reports
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

# The module of every public name that is not a function of provisioner.api.
_HOME = {
    **dict.fromkeys(("InfeasibleError", "InputError", "ProvisionerError"), "provisioner.errors"),
    **dict.fromkeys(("PlanOptions", "SimulateOptions"), "provisioner.options"),
    "Plan": "provisioner.results.plan",
    "Simulation": "provisioner.results.simulation",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package costs nothing."""
    if name == "__version__":
        return _version_of()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "provisioner.api")), name)


_reports.load = lambda: import_module("provisioner.report.reports")
