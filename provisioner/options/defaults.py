"""Names and numbers that options and the modules below them share: each stands here once."""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from provisioner.specs.metrics import ALIASES, MEASURED, NAMED_PERCENTILES, name_of
from provisioner.specs.roles import ROLE_ALIASES

Assumptions = Literal["measured", "splitwise-sim"]
ASSUMPTIONS: Final[tuple[Assumptions, ...]] = get_args(Assumptions)

Evidence = Literal["measured", "derived", "estimated"]
EVIDENCE: Final[tuple[Evidence, ...]] = get_args(Evidence)  # kinds of latency curves, the best first
PolicyName = Literal["splitwise", "split", "mixed", "chunked", "strict", "deflect"]
POLICIES: Final[tuple[PolicyName, ...]] = get_args(PolicyName)

COLOCATED_BESIDE: Final[Mapping[PolicyName, PolicyName]] = {
    **dict.fromkeys(("strict", "deflect"), "chunked"),
    **dict.fromkeys(("splitwise", "split"), "mixed"),
}
"""Policies of designs that split the phases, each with that of the colocated designs beside them."""

SPLITTING: Final = tuple(COLOCATED_BESIDE)
"""Policies of designs that split the phases; the others are of colocated ones."""

DEFAULT_POLICY: Final[Mapping[Assumptions, PolicyName]] = {"measured": "strict", "splitwise-sim": "splitwise"}
"""Policies where none is asked for, by the set of assumptions: engines', or the paper's."""

STRICT_POLICIES: Final[tuple[PolicyName, ...]] = ("strict", "deflect")
ENGINE_POLICIES: Final[tuple[PolicyName, ...]] = ("chunked", *STRICT_POLICIES)
"""Policies by which engines serve, with the engine's tokens and requests; the others are the Splitwise paper's."""

PAPER_POLICIES: Final[tuple[PolicyName, ...]] = ("splitwise", "mixed")
"""Policies of which no common engine has the scheduler: machines lent between pools, prompts before sequences."""


def policies(asked: PolicyName) -> tuple[PolicyName, PolicyName]:
    """Policies of designs that split the phases and of colocated ones, where one of them is asked for.

    >>> policies("deflect"), policies("chunked"), policies("mixed")
    (('deflect', 'chunked'), ('strict', 'chunked'), ('splitwise', 'mixed'))
    """
    split = asked if asked in SPLITTING else next(each for each, beside in COLOCATED_BESIDE.items() if beside == asked)
    return split, COLOCATED_BESIDE[split]


class _Unnamed(str):
    """A default that is told from the same name when it is given."""

    __slots__ = ()


DEFAULT_SLO: Final = _Unnamed("splitwise")  # where no limits are given by hand
LIMIT_NAMES: Final = tuple(name_of(metric, percentile) for metric in MEASURED for percentile in NAMED_PERCENTILES)
"""Limits that have a flag and a keyword of their own."""

FACTORS: Final = ("rate", "cv", "prompt-tokens", "output-tokens", "slo")
MACHINE_FACTORS: Final = ("prompt-time", "decode-time", "link-bandwidth", "price", "power")
"""Inputs that ``scale`` multiplies; those of machines also of one type, as in ``price:dgx-a100``."""

FACTOR_NAMES: Final = (
    f"{', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} of all machines or of one type, such as price:dgx-a100"
)
"""The inputs as help lists them."""

ALSO_CALLED: Final = {**ROLE_ALIASES, **ALIASES}
"""Words of the field for roles and metrics, with the word that this program uses."""

DESIGN_ALIASES: Final = {"colocated": "baseline"}
"""Words of the field with which names of designs begin, with the word that this program uses."""

DURATION_S: Final = 120.0  # time in which requests of a drawn set arrive, in s
WARM_UP: Final = 0.1  # share of a drawn set that is not measured at its start, while an empty cluster fills
CONFIDENCE: Final = 0.95  # confidence of intervals over request sets, and of the bound that has to be within a limit
MOST_SETS: Final = 15  # request sets on which a cluster is judged at most

CUT_MARGIN: Final = 1.3
"""Multiple of a limit beyond which a cluster fails by a clear margin, and excludes all smaller ones.

On one published trace a cluster at 1.1 times a limit failed while a smaller one passed; at 1.3 times none did.
"""

MAX_PENDING_TOKENS: Final = 8192
BATCH_TOKENS: Final = 2048
BATCH_REQUESTS: Final = 512
MAX_PREEMPTIONS: Final = 4
"""Thresholds of every scheduling policy, as Splitwise publishes them."""

TOKEN_BUDGETS: Final = (512, 1024, 2048, 4096, 8192, 16384)
"""Tokens of an iteration that a plan considers for each pool that computes prompts, unless it is told which."""

DEFLECT_BELOW_TOKENS: Final = 1000
"""Prompts below this length are computed where they are decoded, under the policy ``deflect``.

Dynamo's ``max_local_prefill_length`` (ai-dynamo/dynamo, lib/llm, DisaggRouterConf). Its later policy ``isl_bounding``
has ``eff_isl_threshold`` 2,048; llm-d's prefix-based-pd-decider has ``nonCachedTokens``, without a default (0 sends
nothing to prompt replicas), 16 in its guides.
"""

TRANSFER_RETRY_S: Final = {"measured": 0.0, "splitwise-sim": 1.0}
SHARE_LINKS: Final = {"measured": True, "splitwise-sim": False}
"""Transfers of KV caches, by the set of assumptions."""
