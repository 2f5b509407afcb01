"""Scheduling policies of a cluster, as data: four named policies and their thresholds."""

from dataclasses import dataclass, replace
from typing import Self

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import defaults


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduling policy. Defaults are the published configuration of Splitwise, for the settings that it has.

    ``splitwise``: prompt and token pools that lend machines to a mixed pool; ``split``: strict pools; ``mixed``: whole
    requests with mixed batching (the paper's baselines); ``chunked``: whole requests with chunked prefill.
    ``max_pending_tokens`` is the queue beyond which a prompt machine refuses, ``batch_tokens`` the tokens of one
    iteration (a prompt counts its tokens, or its chunk's, a sequence 1) in pools without their own, ``batch_requests``
    the requests of a batch.
    ``max_preemptions`` is the number of times that a task is passed over before it goes first, ``transfer_retry_s`` the
    time after which a transfer that found no room tries again (0: as soon as memory is freed). With ``share_links``,
    transfers on one link slow each other down.
    """

    name: defaults.PolicyName
    max_pending_tokens: int = defaults.MAX_PENDING_TOKENS
    batch_requests: int = defaults.BATCH_REQUESTS
    batch_tokens: int = defaults.BATCH_TOKENS
    max_preemptions: int = defaults.MAX_PREEMPTIONS
    transfer_retry_s: float = defaults.TRANSFER_RETRY_S["measured"]
    share_links: bool = defaults.SHARE_LINKS["measured"]

    def __post_init__(self) -> None:
        if self.name not in defaults.POLICIES:
            raise UnknownNameError("policy", self.name, defaults.POLICIES)
        for field, least in (
            ("max_pending_tokens", 0),
            ("batch_requests", 1),
            ("batch_tokens", 1),
            ("max_preemptions", 1),
            ("transfer_retry_s", 0.0),
        ):
            value = getattr(self, field)
            if not least <= value < float("inf"):
                raise InputError(f"policy {self.name}: {field}: must be {least} or more, got {value}")

    def as_published(self) -> Self:
        """Policy with the published simulator's transfers: links not shared, another try after 1 s."""
        published = "splitwise-sim"
        retry_s, share = defaults.TRANSFER_RETRY_S[published], defaults.SHARE_LINKS[published]
        return replace(self, transfer_retry_s=retry_s, share_links=share)
