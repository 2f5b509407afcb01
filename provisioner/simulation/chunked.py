"""Chunked prefill as engines schedule it (compiled): on colocated replicas, and on the replicas of strict pools.

An iteration has chunks of prompts within a token budget, in order of arrival and cut where they do not fit, and a token
of every sequence that runs. Decode-first, both share it (vLLM, TensorRT-LLM); prompt-first, prompts run in place of
the sequences, which wait (SGLang). Memory is all of a request's, prompt and output, when it joins (``reserve_whole``),
or grows with its tokens: its prompt's all at once (``reserve_prompt``) or chunk by chunk. Where it runs out, the
request that joined last is evicted and computed again: behind its equals in order of arrival, or, in strict pools,
before all KV caches that come. Nothing joins in that iteration. With an estimate of the output (SGLang), other rules
say who joins and who is evicted (``estimate``), and requests wait in the order in which they came to wait.
"""

from provisioner.simulation import records
from provisioner.simulation.estimate import (
    begin_iteration,
    first_to_evict,
    joined_tokens,
    kept_tokens,
    raise_share,
    wanted_tokens,
)
from provisioner.simulation.machine import account, begin, end_run, make_ready, take_memory
from provisioner.simulation.pointers import arena_at, compiled, list_at, prompt_s, replica_at, request_at
from provisioner.simulation.records import BATCH, BLOCKED, FRESH, LISTS, PREEMPTED, PRESENT, PROMPTS_WAITING, World
from provisioner.simulation.structures import append, insert_sorted, remove_at
from provisioner.simulation.transfers import admit_blocked


@compiled
def _to_compute(world: World, request: int) -> int:
    """Tokens whose KV cache a request still has to compute before its next token."""
    this = request_at(world, request)
    return this.prompt_tokens + this.output_tokens - this.remaining - this.computed


@compiled
def wait(world: World, k: int, request: int) -> None:
    """Add a request to a list of waiting ones: in order of arrival, or with an estimate behind all."""
    if world.estimates:
        append(world, k, request)
    else:
        insert_sorted(world, k, request)


@compiled
def _evict(world: World, r: int, place: int, now_s: float) -> None:
    """Send the request at a place of the batch back to wait, without its memory."""
    batch = list_at(world, LISTS * r + BATCH)
    request = arena_at(world, batch.start + batch.head + place).value
    remove_at(world, LISTS * r + BATCH, place)
    this = request_at(world, request)
    begun = world.strict and this.state != records.PROMPT_RUNNING
    held = this.computed
    if world.reserve_prompt and this.state != records.TOKEN_RUNNING:
        held += _to_compute(world, request)
    take_memory(world, r, -held, now_s)
    this.computed = 0
    this.interrupted += 1
    world.preemptions += 1
    this.state = records.TOKEN_WAITING if begun else records.PROMPT_WAITING
    wait(world, LISTS * r + (PREEMPTED if begun else PROMPTS_WAITING), request)


@compiled
def _evict_by_estimate(world: World, r: int, now_s: float) -> bool:
    """Evict sequences until the next iteration has room, as admission by estimate does; return whether any was."""
    evicted = False
    place = first_to_evict(world, r)
    while place >= 0:
        _evict(world, r, place, now_s)
        evicted = True
        place = first_to_evict(world, r)
    if evicted:
        raise_share(world, r)
    return evicted


@compiled
def _continue_steady(world: World, r: int, now_s: float) -> None:
    """Take the memory of the sequences that have their tokens already; if it is short, take all their tokens back."""
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    if replica.steady == 0 or world.reserve_whole:
        return
    if replica.used_tokens + replica.steady <= replica.capacity_tokens:
        take_memory(world, r, replica.steady, now_s)
        return
    for i in range(replica.steady):
        request_at(world, arena_at(world, batch.start + batch.head + i).value).chunk = 0
    replica.steady = 0


@compiled
def _continue(world: World, r: int, prompts: bool, sequences: bool, budget: int, now_s: float) -> tuple[int, bool]:
    """Give the prompts, or sequences, or both that run their tokens of the next iteration, in the order they joined.

    Their memory is taken. Return the budget left, and whether a request was evicted for it.
    """
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    prompts_grow, sequences_grow = not world.reserve_prompt, not world.reserve_whole
    evicted = False
    _continue_steady(world, r, now_s)
    i = replica.steady
    budget -= i
    while i < batch.length:
        request = arena_at(world, batch.start + batch.head + i).value
        this = request_at(world, request)
        decodes = this.state == records.TOKEN_RUNNING
        if (decodes and sequences) or (prompts and not decodes):
            chunk, grows = 1, sequences_grow
            if not decodes:
                chunk, grows = min(_to_compute(world, request), max(budget, 0)), prompts_grow
            while grows and replica.used_tokens + chunk > replica.capacity_tokens and i < batch.length:
                _evict(world, r, batch.length - 1, now_s)
                evicted = True
            if i < batch.length:
                this.chunk = chunk
                budget -= chunk
                if grows:
                    take_memory(world, r, chunk, now_s)
        i += 1
    return budget, evicted


@compiled
def _join(world: World, r: int, kind: int, budget: int, now_s: float) -> int:
    """Let waiting requests of one list join in order while budget, batch and memory allow; return the budget left."""
    replica = replica_at(world, r)
    batch, waiting, blocked = (
        list_at(world, LISTS * r + BATCH),
        list_at(world, LISTS * r + kind),
        list_at(world, LISTS * r + BLOCKED),
    )
    if world.estimates and replica.full:
        return budget
    kept = kept_tokens(world, r) if world.estimates else 0.0
    while waiting.length > 0 and budget > 0 and batch.length < world.batch_requests:
        request = arena_at(world, waiting.start + waiting.head).value
        behind = blocked.length > 0 and arena_at(world, blocked.start + blocked.head).value < request
        if kind == PROMPTS_WAITING and behind:  # a KV cache that waits for memory came before it
            break
        this = request_at(world, request)
        tokens = _to_compute(world, request)
        chunk = min(tokens, budget)
        if this.token_at != r:
            tokens += 1
        elif world.reserve_whole:
            tokens += this.remaining
        elif not world.reserve_prompt:
            tokens = chunk
        if replica.used_tokens + tokens > replica.capacity_tokens:
            break
        if world.estimates and this.token_at == r:
            if replica.used_tokens + kept + tokens + wanted_tokens(world, r, request) > replica.capacity_tokens:
                break
            kept += joined_tokens(world, request, chunk == tokens)
        account(world, r, now_s)
        remove_at(world, LISTS * r + kind, 0)
        append(world, LISTS * r + BATCH, request)
        this.state = records.RECOMPUTING if kind == PREEMPTED else records.PROMPT_RUNNING
        this.chunk = chunk
        take_memory(world, r, tokens, now_s)
        budget -= chunk
    replica.full = world.estimates and not world.strict and waiting.length > 0 and budget > 0
    return budget


@compiled
def _join_prompts(world: World, r: int, budget: int, now_s: float) -> int:
    """Let requests join that have to be computed, the evicted of strict pools first; return the budget left."""
    for kind in (PREEMPTED, PROMPTS_WAITING):
        waiting = list_at(world, LISTS * r + kind)
        if waiting.length > 0:
            budget = _join(world, r, kind, budget, now_s)
        if waiting.length > 0:
            break
    return budget


@compiled
def _join_sequences(world: World, r: int, budget: int) -> int:
    """Let sequences join whose KV caches have come, a token each; return the budget left."""
    batch, fresh = list_at(world, LISTS * r + BATCH), list_at(world, LISTS * r + FRESH)
    while fresh.length > 0 and batch.length < world.batch_requests:
        request = arena_at(world, fresh.start + fresh.head).value
        remove_at(world, LISTS * r + FRESH, 0)
        append(world, LISTS * r + BATCH, request)
        this = request_at(world, request)
        this.state = records.TOKEN_RUNNING
        this.chunk = 1
        budget -= 1
    return budget


@compiled
def _schedule(world: World, r: int, now_s: float) -> bool:
    """Give every request its tokens of the next iteration; return whether a request was evicted for it.

    Who gets none has a chunk of 0.
    """
    batch, budget = list_at(world, LISTS * r + BATCH), replica_at(world, r).budget_tokens
    if world.prompts_first:
        left, _ = _continue(world, r, True, False, budget, now_s)
        if _join_prompts(world, r, left, now_s) < budget:
            return False
    estimated = world.estimates and _evict_by_estimate(world, r, now_s)
    left, evicted = _continue(world, r, not world.prompts_first, True, budget, now_s)
    evicted = evicted or estimated
    if not evicted or batch.length == 0:
        left = _join_sequences(world, r, left)
        if not world.prompts_first or batch.length == 0:
            _join_prompts(world, r, left, now_s)
    return evicted


@compiled
def start_chunked(world: World, r: int, now_s: float) -> None:
    """Run a replica's next iteration, or its next run of token iterations, or leave the replica idle.

    A chunk takes the time of a prompt of its size and the extra time of its attention to the ``before`` tokens of its
    prompt: (P(before + chunk) - P(before)) - (P(chunk) - P(1)), if positive.
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
    sequences, context, tokens, prompts = replica.steady, 0, 0, 0
    if sequences > 0:
        context, iterations = replica.context_tokens, min(iterations, replica.first_end)
    further_s = 0.0
    for i in range(sequences, batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.chunk == 0:
            continue
        if this.state == records.TOKEN_RUNNING:
            sequences += 1
            context += this.computed + 1
            iterations = min(iterations, this.remaining)
            if this.remaining == this.output_tokens:
                iterations = 1  # to know when its first token comes
        else:
            prompts += 1
            tokens += this.chunk
            if this.computed > 0:
                whole_s = prompt_s(world, kind, this.computed + this.chunk) - prompt_s(world, kind, this.computed)
                further_s += max(whole_s - (prompt_s(world, kind, this.chunk) - prompt_s(world, kind, 1)), 0.0)
    if world.estimates and begin_iteration(world, r, sequences, prompts, evicted):
        iterations = 1
    replica.prompts_running = prompts
    replica.prompt_tokens = tokens
    replica.batch_tokens = tokens + sequences
    if sequences > 0 and not world.reserve_whole:
        free = int(replica.capacity_tokens) - replica.used_tokens
        iterations = min(iterations, 1 + max(free, 0) // sequences)
    begin(world, r, sequences, context, iterations, further_s, now_s)


@compiled
def arrive_chunked(world: World, r: int, request: int, now_s: float) -> None:
    """Add an arriving request: it starts an idle replica, or ends a run of token iterations if the batch has room."""
    this, replica = request_at(world, request), replica_at(world, r)
    account(world, r, now_s)
    this.state = records.PROMPT_WAITING
    this.computed = this.chunk = 0
    this.remaining = this.output_tokens
    wait(world, LISTS * r + PROMPTS_WAITING, request)
    insert_sorted(world, LISTS * r + PRESENT, request)
    replica.most_waiting = max(replica.most_waiting, list_at(world, LISTS * r + PROMPTS_WAITING).length)
    room = list_at(world, LISTS * r + BATCH).length < world.batch_requests
    if replica.doing == records.IDLE:
        make_ready(world, r)
    elif replica.doing == records.TOKEN_RUN and not replica.full and (room or world.estimates):
        end_run(world, r, now_s)
