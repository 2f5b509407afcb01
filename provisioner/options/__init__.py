"""The options: each is declared once, for Python, the command line, its help and its documentation.

``defaults`` has shared names and numbers, ``kinds`` kinds of values, ``declaration`` and ``base`` what an option and
a class of options are, ``conflicts`` the options that exclude each other. The options are in ``shared``, ``plan``,
``simulation``, ``studies`` and ``profiling``. Imports errors, and of the specs the tables of metrics,
criteria and roles and the units only, so that the command line shows its help without loading the planner.
"""

from provisioner.options.base import Options, declared, documentation
from provisioner.options.declaration import Option, flag_also_called, flag_of
from provisioner.options.defaults import ASSUMPTIONS, DURATION_S, FACTORS, LIMIT_NAMES, MACHINE_FACTORS, WARM_UP
from provisioner.options.plan import PlanOptions
from provisioner.options.profiling import ProfileOptions
from provisioner.options.shared import OutputOptions
from provisioner.options.simulation import SimulateOptions
from provisioner.options.studies import (
    CapacityOptions,
    CompareOptions,
    ParetoOptions,
    ReproduceOptions,
    SensitivityOptions,
    SweepOptions,
    VaryOptions,
)
from provisioner.spelling import spelled, spelled_as_flags

__all__ = [
    "ASSUMPTIONS",
    "DURATION_S",
    "FACTORS",
    "LIMIT_NAMES",
    "MACHINE_FACTORS",
    "WARM_UP",
    "CapacityOptions",
    "CompareOptions",
    "Option",
    "Options",
    "OutputOptions",
    "ParetoOptions",
    "PlanOptions",
    "ProfileOptions",
    "ReproduceOptions",
    "SensitivityOptions",
    "SimulateOptions",
    "SweepOptions",
    "VaryOptions",
    "declared",
    "documentation",
    "flag_also_called",
    "flag_of",
    "spelled",
    "spelled_as_flags",
]
