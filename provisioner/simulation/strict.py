"""Strict pools as engines schedule them (compiled): prompts in chunks, sequences that grow, recomputed where evicted.

A replica's iteration has one token of every sequence that runs, and prompts for the rest of its token budget, in
order of arrival and cut where they do not fit. A request joins when the memory for all tokens that it has to compute
is free, and takes it (vLLM's ``scheduler_reserve_full_isl``); a sequence takes a token with each iteration, or, where
memory is reserved, all of them when it comes. Where memory runs out, the sequence that joined last is evicted: it
waits, before all KV caches that come, to be computed again there.
"""

from provisioner.simulation import records
from provisioner.simulation.chunked import to_compute
from provisioner.simulation.machine import account, begin, take_memory
from provisioner.simulation.pointers import arena_at, compiled, list_at, prompt_s, replica_at, request_at
from provisioner.simulation.records import BATCH, BLOCKED, FRESH, LISTS, PREEMPTED, PROMPTS_WAITING, World
from provisioner.simulation.structures import append, insert_sorted, remove_at
from provisioner.simulation.transfers import admit_blocked


@compiled
def _evict_last(world: World, r: int, now_s: float) -> None:
    """Send the request that joined last back to wait, without its memory."""
    batch = list_at(world, LISTS * r + BATCH)
    batch.length -= 1
    request = arena_at(world, batch.start + batch.head + batch.length).value
    this = request_at(world, request)
    begun = this.state != records.PROMPT_RUNNING
    held = this.computed + this.chunk
    if this.state != records.TOKEN_RUNNING:
        held = this.prompt_tokens + this.output_tokens - this.remaining
    take_memory(world, r, -held, now_s)
    this.computed = this.chunk = 0
    this.interrupted += 1
    world.preemptions += 1
    this.state = records.TOKEN_WAITING if begun else records.PROMPT_WAITING
    insert_sorted(world, LISTS * r + (PREEMPTED if begun else PROMPTS_WAITING), request)


@compiled
def _join(world: World, r: int, kind: int, budget: int, now_s: float) -> int:
    """Let waiting requests of one list join in order while budget, batch and memory allow; return the budget left."""
    replica = replica_at(world, r)
    batch, waiting, blocked = (
        list_at(world, LISTS * r + BATCH),
        list_at(world, LISTS * r + kind),
        list_at(world, LISTS * r + BLOCKED),
    )
    while waiting.length > 0 and budget > 0 and batch.length < world.batch_requests:
        request = arena_at(world, waiting.start + waiting.head).value
        behind = blocked.length > 0 and arena_at(world, blocked.start + blocked.head).value < request
        if kind == PROMPTS_WAITING and behind:  # a KV cache that waits for memory came before it
            break
        this = request_at(world, request)
        tokens = this.prompt_tokens + this.output_tokens - this.remaining
        if this.token_at != r:
            tokens += 1
        elif world.reserve_whole:
            tokens = this.prompt_tokens + this.output_tokens
        if replica.used_tokens + tokens > replica.capacity_tokens:
            break
        account(world, r, now_s)
        remove_at(world, LISTS * r + kind, 0)
        append(world, LISTS * r + BATCH, request)
        this.state = records.RECOMPUTING if kind == PREEMPTED else records.PROMPT_RUNNING
        this.chunk = min(to_compute(world, request), budget)
        take_memory(world, r, tokens, now_s)
        budget -= this.chunk
    return budget


@compiled
def _schedule(world: World, r: int, now_s: float) -> bool:
    """Give every request its tokens of the next iteration, and take the memory of those that join and grow.

    Return whether a request was evicted for it.
    """
    replica, batch, fresh = (
        replica_at(world, r),
        list_at(world, LISTS * r + BATCH),
        list_at(world, LISTS * r + FRESH),
    )
    budget = replica.budget_tokens
    evicted = False
    i = 0
    while i < batch.length:
        request = arena_at(world, batch.start + batch.head + i).value
        this = request_at(world, request)
        if this.state == records.TOKEN_RUNNING:
            while not world.reserve_whole and replica.used_tokens + 1 > replica.capacity_tokens and i < batch.length:
                _evict_last(world, r, now_s)
                evicted = True
            if i < batch.length:
                this.chunk = 1
                if not world.reserve_whole:
                    take_memory(world, r, 1, now_s)
        else:
            this.chunk = min(to_compute(world, request), max(budget, 0))
        budget -= this.chunk
        i += 1
    if not evicted or batch.length == 0:
        while fresh.length > 0 and batch.length < world.batch_requests:
            request = arena_at(world, fresh.start + fresh.head).value
            remove_at(world, LISTS * r + FRESH, 0)
            append(world, LISTS * r + BATCH, request)
            request_at(world, request).state = records.TOKEN_RUNNING
            budget -= 1
        budget = _join(world, r, PREEMPTED, budget, now_s)
        if list_at(world, LISTS * r + PREEMPTED).length == 0:
            _join(world, r, PROMPTS_WAITING, budget, now_s)
    return evicted


@compiled
def start_strict(world: World, r: int, now_s: float) -> None:
    """Run a replica's next iteration, or its next run of token iterations, or leave the replica idle.

    A chunk takes the time that it takes under ``chunked.start_chunked``.
    """
    replica = replica_at(world, r)
    blocked = list_at(world, LISTS * r + BLOCKED)
    evicted = _schedule(world, r, now_s)
    iterations = 1 << 60
    if evicted:  # the evicted may come back after the next iteration
        iterations = 1
    if blocked.length > 0:
        before = blocked.length
        admit_blocked(world, r, now_s)
        if blocked.length < before and list_at(world, LISTS * r + PROMPTS_WAITING).length > 0:
            iterations = 1  # a prompt that waited behind the KV cache may join after the next iteration
    batch = list_at(world, LISTS * r + BATCH)
    kind = replica.type
    sequences, context, tokens, prompts = 0, 0, 0, 0
    further_s = 0.0
    for i in range(batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.state == records.TOKEN_RUNNING:
            sequences += 1
            context += this.computed + 1
            iterations = min(iterations, this.remaining)
            if this.remaining == this.output_tokens:
                iterations = 1  # to know when its first token comes
        elif this.chunk > 0:
            prompts += 1
            tokens += this.chunk
            if this.computed > 0:
                whole_s = prompt_s(world, kind, this.computed + this.chunk) - prompt_s(world, kind, this.computed)
                further_s += max(whole_s - (prompt_s(world, kind, this.chunk) - prompt_s(world, kind, 1)), 0.0)
    replica.prompts_running = prompts
    replica.prompt_tokens = tokens
    replica.batch_tokens = tokens + sequences
    if sequences > 0 and not world.reserve_whole:
        free = int(replica.capacity_tokens) - replica.used_tokens
        iterations = min(iterations, 1 + max(free, 0) // sequences)
    begin(world, r, sequences, context, iterations, further_s, now_s)
