"""Cluster-level scheduling (compiled): the replicas to which an arriving request goes.

With a mixed pool (policy ``splitwise``), the rules of the paper's cluster-level scheduler as in its published
simulator; with strict pools, the least loaded replica of each role; with whole requests, the least loaded of all.
Routers of engines know prompts and numbers of requests, no output lengths.
"""

from provisioner.simulation.chunked import arrive_chunked
from provisioner.simulation.machine import arrive_prompt, change_pool
from provisioner.simulation.minima import PENDING, SCHEDULED, least, promise
from provisioner.simulation.pointers import compiled, list_at, replica_at, request_at, slot_at
from provisioner.simulation.records import HELD, LISTS, MIXED_POOL, PROMPT_POOL, TOKEN_POOL, WAITING, World

PROMPT_ROLE, TOKEN_ROLE, MIXED_ROLE = 0, 1, 2


@compiled
def _least(world: World, by: int, pool: int) -> int:
    """Replica of a pool with the fewest tokens pending or scheduled, the earliest in its list; -1 without any."""
    return least(world, 2 * pool + by)


@compiled
def _prompt_taker(world: World, pool: int, request: int) -> int:
    """Replica of a pool whose queue is short enough for one more prompt; -1 without any."""
    r = _least(world, PENDING, pool)
    if r < 0:
        return -1
    waits = list_at(world, LISTS * r + WAITING).length > 0
    tokens = replica_at(world, r).pending_tokens + request_at(world, request).prompt_tokens
    return -1 if waits and tokens > world.max_pending_tokens else r


@compiled
def _token_taker(world: World, pool: int, request: int) -> int:
    """Replica of a pool that has KV memory left to promise; -1 without any."""
    r = _least(world, SCHEDULED, pool)
    if r < 0:
        return -1
    this, replica = request_at(world, request), replica_at(world, r)
    tokens = replica.scheduled_tokens + this.prompt_tokens + this.output_tokens
    return r if tokens < replica.capacity_tokens else -1


@compiled
def _borrowing(world: World, request: int, now_s: float) -> tuple[int, int]:
    """Prompt and token replica for a request, with a mixed pool between the two pools."""
    prompt_at = _prompt_taker(world, PROMPT_POOL, request)
    if prompt_at < 0:
        prompt_at = _prompt_taker(world, MIXED_POOL, request)
    token_at = _token_taker(world, TOKEN_POOL, request)
    if token_at < 0:
        token_at = _token_taker(world, MIXED_POOL, request)
    if prompt_at < 0:
        prompt_at = _least(world, PENDING, TOKEN_POOL)
        if prompt_at >= 0:
            change_pool(world, prompt_at, now_s)
    if token_at < 0:
        token_at = _least(world, SCHEDULED, PROMPT_POOL)
        if token_at >= 0:
            change_pool(world, token_at, now_s)
    if prompt_at >= 0 and token_at >= 0:
        return prompt_at, token_at
    best = -1
    for pool in (PROMPT_POOL, MIXED_POOL, TOKEN_POOL):
        r = _least(world, PENDING, pool)
        if r >= 0 and (best < 0 or replica_at(world, r).pending_tokens < replica_at(world, best).pending_tokens):
            best = r
    return best, best


@compiled
def _strict(world: World, request: int) -> tuple[int, int]:
    """Prompt and token replica of strict pools that serve the request's prompt length."""
    prompt_at, token_at = -1, -1
    length = request_at(world, request).prompt_tokens
    for s in range(world.slots_count):
        slot = slot_at(world, s)
        if slot.min_prompt_tokens <= length <= slot.max_prompt_tokens:
            if slot.role == TOKEN_ROLE:
                token_at = _least(world, PENDING if world.strict else SCHEDULED, slot.pool)
            else:
                prompt_at = _least(world, PENDING, slot.pool)
                if slot.role == MIXED_ROLE:
                    token_at = prompt_at
    if world.strict and (
        length < world.deflect_below_tokens
        or prompt_at < 0
        or replica_at(world, prompt_at).pending_tokens > world.deflect_beyond_tokens
    ):
        prompt_at = token_at
    return prompt_at, token_at


@compiled
def route(world: World, request: int, now_s: float) -> None:
    """Send a request to its replicas, or hold it while no replica in service can take it."""
    this = request_at(world, request)
    if world.borrow:
        prompt_at, token_at = _borrowing(world, request, now_s)
    else:
        prompt_at, token_at = _strict(world, request)
    if prompt_at < 0 or token_at < 0:
        this.state = HELD
        world.held += 1
        return
    this.prompt_at, this.token_at = prompt_at, token_at
    this.token_epoch = replica_at(world, token_at).epoch
    if prompt_at != token_at or not world.strict:  # a token replica's load is the number of its requests
        promise(world, prompt_at, this.prompt_tokens, this.prompt_tokens + 1 if prompt_at != token_at else 0)
    promise(world, token_at, 1, this.prompt_tokens + this.output_tokens)
    if world.chunked:
        arrive_chunked(world, prompt_at, request, now_s)
    else:
        arrive_prompt(world, prompt_at, request, now_s)
