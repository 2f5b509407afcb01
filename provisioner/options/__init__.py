"""The options: each is declared once, for Python, the command line, its help and its documentation.

Imports errors, and of the specs the tables of metrics, criteria and roles and the units only, so that the command line
shows its help without loading the planner.
"""

from provisioner.options.base import Options as Options
from provisioner.options.base import declared as declared
from provisioner.options.base import documentation as documentation
from provisioner.options.declaration import Option as Option
from provisioner.options.declaration import flag_also_called as flag_also_called
from provisioner.options.declaration import flag_of as flag_of
from provisioner.options.defaults import DURATION_S as DURATION_S
from provisioner.options.defaults import FACTORS as FACTORS
from provisioner.options.defaults import LIMIT_NAMES as LIMIT_NAMES
from provisioner.options.defaults import MACHINE_FACTORS as MACHINE_FACTORS
from provisioner.options.defaults import WARM_UP as WARM_UP
from provisioner.options.plan import PlanOptions as PlanOptions
from provisioner.options.profiling import ProfileOptions as ProfileOptions
from provisioner.options.shared import OutputOptions as OutputOptions
from provisioner.options.simulation import SimulateOptions as SimulateOptions
from provisioner.options.studies import CapacityOptions as CapacityOptions
from provisioner.options.studies import CompareOptions as CompareOptions
from provisioner.options.studies import ParetoOptions as ParetoOptions
from provisioner.options.studies import ReproduceOptions as ReproduceOptions
from provisioner.options.studies import SensitivityOptions as SensitivityOptions
from provisioner.options.studies import SweepOptions as SweepOptions
from provisioner.options.studies import VaryOptions as VaryOptions
from provisioner.spelling import spelled as spelled
from provisioner.spelling import spelled_as_flags as spelled_as_flags
