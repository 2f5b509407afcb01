"""The options: each is declared once, for Python, the command line, its help and its documentation.

Imports errors, and of the specs the tables of metrics, criteria and roles and the units only, so that the command line
shows its help without loading the planner.
"""

from provisioner.options.base import Options, declared, documentation
from provisioner.options.declaration import Option, flag_also_called, flag_of
from provisioner.options.defaults import DURATION_S, FACTORS, LIMIT_NAMES, MACHINE_FACTORS, WARM_UP
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
