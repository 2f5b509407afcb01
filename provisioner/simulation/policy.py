"""Scheduling policies of a cluster, as data: named policies and their thresholds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, get_args

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import defaults
from provisioner.perf.assumptions import ReplicaPerf
from provisioner.specs.engine import Admission, Estimate, Order, Role

_OF_PAPER: Final = (
    *("max_pending_tokens", "batch_requests", "batch_tokens"),
    *("max_preemptions", "transfer_retry_s", "share_links"),
)
_OF_ENGINES: Final = ("order", "admission")
_OF_STRICT: Final = ("batch_requests", "batch_tokens", "share_links", *_OF_ENGINES, "first_token", "handover_s")

SETTINGS: Final[Mapping[defaults.PolicyName, tuple[str, ...]]] = {
    **dict.fromkeys(("splitwise", "split", "mixed"), _OF_PAPER),
    "chunked": ("batch_requests", "batch_tokens", *_OF_ENGINES),
    "strict": _OF_STRICT,
    "deflect": ("max_pending_tokens", *_OF_STRICT, "deflect_below_tokens"),
}
"""Thresholds that each policy has."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduling policy. Defaults are the published configuration of Splitwise, for the settings that it has.

    ``splitwise``: prompt and token pools that lend machines to a mixed pool; ``split``: strict pools; ``mixed``: whole
    requests with mixed batching (the paper's baselines); ``chunked``: whole requests with chunked prefill; ``strict``:
    strict pools as engines run them, prompts in chunks and sequences that grow; ``deflect``: the same with some prompts
    computed where they are decoded.
    ``max_pending_tokens`` is the queue beyond which a prompt machine refuses, ``batch_tokens`` the tokens of one
    iteration (a prompt counts its tokens, or its chunk's, a sequence 1) in pools without their own, ``batch_requests``
    the requests of a batch.
    ``max_preemptions`` is the number of times that a task is passed over before it goes first, ``transfer_retry_s`` the
    time after which a transfer that found no room tries again (0: as soon as memory is freed). With ``share_links``,
    transfers on one link slow each other down.

    With chunked prefill (the last three), ``order`` says whether chunks of prompts run beside the sequences that decode
    (``decode-first``: vLLM, TensorRT-LLM) or in their place (``prompt-first``: SGLang without mixed chunks).
    ``admission`` is what replicas that decode do about memory: evict the request that joined last where it runs out and
    ``recompute`` it there (vLLM), or ``reserve`` prompt and output when a request joins or its KV cache comes
    (TensorRT-LLM's GUARANTEED_NO_EVICT), or keep room for an ``estimate`` of the output and evict where it was too low
    (SGLang). No request has a declared maximum here: its output stands for it.
    ``first_token`` is the pool that emits it, ``handover_s`` the time of a handover beside that of the link. Prompts
    below ``deflect_below_tokens``, and all while even the shortest queue of a prompt replica exceeds
    ``max_pending_tokens``, are computed where they are decoded.
    """

    name: defaults.PolicyName
    max_pending_tokens: int = defaults.MAX_PENDING_TOKENS
    batch_requests: int = defaults.BATCH_REQUESTS
    batch_tokens: int = defaults.BATCH_TOKENS
    max_preemptions: int = defaults.MAX_PREEMPTIONS
    transfer_retry_s: float = defaults.TRANSFER_RETRY_S["measured"]
    share_links: bool = defaults.SHARE_LINKS["measured"]
    order: Order = "decode-first"
    admission: Admission = "recompute"
    first_token: Role = "prompt"
    handover_s: float = 0.0
    deflect_below_tokens: int = defaults.DEFLECT_BELOW_TOKENS
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        if self.name not in defaults.POLICIES:
            raise UnknownNameError("policy", self.name, defaults.POLICIES)
        for field, least in (
            ("max_pending_tokens", 0),
            ("batch_requests", 1),
            ("batch_tokens", 1),
            ("max_preemptions", 1),
            ("transfer_retry_s", 0.0),
            ("deflect_below_tokens", 0),
            ("handover_s", 0.0),
        ):
            value = getattr(self, field)
            if not least <= value < float("inf"):
                raise InputError(f"policy {self.name}: {field}: must be {least} or more, got {value}")
        for field, known in (("order", Order), ("admission", Admission), ("first_token", Role)):
            if getattr(self, field) not in get_args(known):
                raise UnknownNameError(field, getattr(self, field), get_args(known))
        if self.admission == "estimate" and self.estimate is None:
            raise InputError(f"policy {self.name}: admission: estimate needs the numbers of an estimate")

    @property
    def of_engines(self) -> bool:
        """Whether strict pools are scheduled as engines do it."""
        return self.name in defaults.STRICT_POLICIES

    @property
    def settings(self) -> dict[str, int | float | bool | str]:
        """The thresholds that the policy has, by name."""
        return {name: getattr(self, name) for name in SETTINGS[self.name]}

    def under(self, replicas: Iterable[ReplicaPerf]) -> Self:
        """The policy as the engines of replicas have it: their fewest requests, their schedule and handover."""
        if self.name not in defaults.ENGINE_POLICIES:
            return self
        listed = tuple(replicas)
        engine = listed[0].engine
        return replace(
            self,
            batch_requests=min(perf.batch.batch_requests for perf in listed),
            batch_tokens=max(perf.batch.batch_tokens for perf in listed),
            order=engine.scheduling.order,
            admission=engine.scheduling.admission,
            estimate=engine.estimate if engine.scheduling.admission == "estimate" else None,
            first_token=engine.handover.first_token,
            handover_s=engine.handover.handover_s,
        )

    def as_published(self) -> Self:
        """Policy with the published simulator's transfers: links not shared, another try after 1 s."""
        published = "splitwise-sim"
        retry_s, share = defaults.TRANSFER_RETRY_S[published], defaults.SHARE_LINKS[published]
        return replace(self, transfer_retry_s=retry_s, share_links=share)
