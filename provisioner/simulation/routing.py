"""Cluster-level scheduling (compiled): the replicas to which an arriving request goes.

With a mixed pool (policy ``splitwise``), the rules of the paper's cluster-level scheduler as in its published
simulator; with strict pools, the least loaded replica of each role; with whole requests, the least loaded of all.
"""

from __future__ import annotations

from provisioner.simulation.chunked import arrive_chunked
from provisioner.simulation.machine import arrive_prompt, change_pool
from provisioner.simulation.pointers import compiled, list_at, replica_at, request_at, slot_at, tree_at
from provisioner.simulation.records import HELD, LISTS, MIXED_POOL, PROMPT_POOL, TOKEN_POOL, WAITING, World
from provisioner.simulation.structures import update_pending, update_scheduled

PROMPT_ROLE = 0
TOKEN_ROLE = 1
MIXED_ROLE = 2


@compiled
def _least_pending(world: World, pool: int) -> int:
    """Replica of a pool with the fewest pending tokens, the earliest in its list; -1 without any."""
    return tree_at(world, 2 * pool, 1).value


@compiled
def _least_scheduled(world: World, pool: int) -> int:
    """Replica of a pool with the least scheduled memory, the earliest in its list; -1 without any."""
    return tree_at(world, 2 * pool + 1, 1).value


@compiled
def _takes_prompt(world: World, r: int, request: int) -> bool:
    """Whether a replica's queue is short enough for one more prompt."""
    if r < 0:
        return False
    waits = list_at(world, LISTS * r + WAITING).length > 0
    tokens = replica_at(world, r).pending_tokens + request_at(world, request).prompt_tokens
    return not (waits and tokens > world.max_pending_tokens)


@compiled
def _takes_tokens(world: World, r: int, request: int) -> bool:
    """Whether a replica has KV memory left to promise."""
    if r < 0:
        return False
    this = request_at(world, request)
    tokens = replica_at(world, r).scheduled_tokens + this.prompt_tokens + this.output_tokens
    return bool(tokens < replica_at(world, r).capacity_tokens)


@compiled
def _to_mixed(world: World, r: int, now_s: float) -> None:
    change_pool(world, r)
    replica_at(world, r).mixed_since_s = now_s
    world.moves += 1


@compiled
def _borrowing(world: World, request: int, now_s: float) -> tuple[int, int]:
    """Prompt and token replica for a request, with a mixed pool between the two pools."""
    prompt_at = _least_pending(world, PROMPT_POOL)
    if not _takes_prompt(world, prompt_at, request):
        prompt_at = _least_pending(world, MIXED_POOL)
        if not _takes_prompt(world, prompt_at, request):
            prompt_at = -1
    token_at = _least_scheduled(world, TOKEN_POOL)
    if not _takes_tokens(world, token_at, request):
        token_at = _least_scheduled(world, MIXED_POOL)
        if not _takes_tokens(world, token_at, request):
            token_at = -1
    if prompt_at < 0:
        prompt_at = _least_pending(world, TOKEN_POOL)
        if prompt_at >= 0:
            _to_mixed(world, prompt_at, now_s)
    if token_at < 0:
        token_at = _least_scheduled(world, PROMPT_POOL)
        if token_at >= 0:
            _to_mixed(world, token_at, now_s)
    if prompt_at < 0 or token_at < 0:
        best = -1
        for pool in (PROMPT_POOL, MIXED_POOL, TOKEN_POOL):
            r = _least_pending(world, pool)
            if r >= 0 and (best < 0 or replica_at(world, r).pending_tokens < replica_at(world, best).pending_tokens):
                best = r
        return best, best
    return prompt_at, token_at


@compiled
def _strict(world: World, request: int) -> tuple[int, int]:
    """Prompt and token replica of strict pools that serve the request's prompt length."""
    prompt_at, token_at = -1, -1
    length = request_at(world, request).prompt_tokens
    for s in range(world.slot_count):
        slot = slot_at(world, s)
        if slot.min_prompt_tokens <= length <= slot.max_prompt_tokens:
            if slot.role == TOKEN_ROLE:
                token_at = _least_scheduled(world, slot.pool)
            else:
                prompt_at = _least_pending(world, slot.pool)
                if slot.role == MIXED_ROLE:
                    token_at = prompt_at
    return prompt_at, token_at


@compiled
def assign(world: World, request: int, prompt_at: int, token_at: int) -> None:
    """Promise a request's tokens and KV memory to its replicas."""
    this = request_at(world, request)
    this.prompt_at, this.token_at = prompt_at, token_at
    prompt, token = replica_at(world, prompt_at), replica_at(world, token_at)
    this.token_epoch = token.epoch
    prompt.pending_tokens += this.prompt_tokens
    token.pending_tokens += 1
    token.scheduled_tokens += this.prompt_tokens + this.output_tokens
    if prompt_at != token_at:
        prompt.scheduled_tokens += this.prompt_tokens + 1
        update_scheduled(world, prompt_at)
        update_pending(world, token_at)
    update_pending(world, prompt_at)
    update_scheduled(world, token_at)


@compiled
def route(world: World, request: int, now_s: float) -> None:
    """Send a request to its replicas, or hold it while no replica in service can take it."""
    if world.borrow:
        prompt_at, token_at = _borrowing(world, request, now_s)
    else:
        prompt_at, token_at = _strict(world, request)
    if prompt_at < 0 or token_at < 0:
        request_at(world, request).state = HELD
        world.held += 1
        return
    assign(world, request, prompt_at, token_at)
    if world.chunked:
        arrive_chunked(world, prompt_at, request, now_s)
        return
    this = request_at(world, request)
    this.remaining = this.output_tokens - 1
    arrive_prompt(world, prompt_at, request, now_s)
