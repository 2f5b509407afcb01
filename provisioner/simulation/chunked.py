"""Chunked prefill (compiled): whole requests, each iteration within one token budget, as vLLM serves by default.

Sequences that run come first, a token each, or as much of their prompt as the budget leaves; waiting requests join
while budget, batch and memory allow. Memory is taken token by token; where it runs out, the sequence that joined
last is evicted and computed again from its beginning (vLLM's recompute preemption).
"""

from provisioner.simulation import records
from provisioner.simulation.machine import account, begin, end_run, make_ready, take_memory
from provisioner.simulation.pointers import arena_at, compiled, list_at, prompt_s, replica_at, request_at
from provisioner.simulation.records import BATCH, LISTS, PRESENT, PROMPTS_WAITING, World
from provisioner.simulation.structures import append, insert_sorted, remove_at


@compiled
def to_compute(world: World, request: int) -> int:
    """Tokens whose KV cache a request still has to compute before its next token."""
    this = request_at(world, request)
    return this.prompt_tokens + this.output_tokens - this.remaining - this.computed


@compiled
def _evict_last(world: World, r: int, now_s: float) -> None:
    """Send the sequence that joined last back to the waiting requests, to be computed again."""
    batch = list_at(world, LISTS * r + BATCH)
    batch.length -= 1
    request = arena_at(world, batch.start + batch.head + batch.length).value
    this = request_at(world, request)
    take_memory(world, r, -(this.computed + this.chunk), now_s)
    this.computed = this.chunk = 0
    this.state = records.PROMPT_WAITING
    this.interrupted += 1
    world.preemptions += 1
    insert_sorted(world, LISTS * r + PROMPTS_WAITING, request)


@compiled
def _schedule(world: World, r: int, now_s: float) -> bool:
    """Give every sequence its tokens of the next iteration, within the budget, and take their memory.

    Return whether a sequence was evicted for it.
    """
    replica = replica_at(world, r)
    batch, waiting = list_at(world, LISTS * r + BATCH), list_at(world, LISTS * r + PROMPTS_WAITING)
    budget = replica.budget_tokens
    evicted = False
    for i in range(batch.length):
        request_at(world, arena_at(world, batch.start + batch.head + i).value).chunk = 0
    i = 0
    while i < batch.length:
        request = arena_at(world, batch.start + batch.head + i).value
        chunk = min(to_compute(world, request), budget)
        while replica.used_tokens + chunk > replica.capacity_tokens and i < batch.length:
            _evict_last(world, r, now_s)
            evicted = True
        if i < batch.length:
            request_at(world, request).chunk = chunk
            take_memory(world, r, chunk, now_s)
            budget -= chunk
        i += 1
    while waiting.length > 0 and budget > 0 and not evicted and batch.length < world.batch_requests:
        request = arena_at(world, waiting.start + waiting.head).value
        chunk = min(to_compute(world, request), budget)
        if replica.used_tokens + chunk > replica.capacity_tokens:
            break
        account(world, r, now_s)
        remove_at(world, LISTS * r + PROMPTS_WAITING, 0)
        append(world, LISTS * r + BATCH, request)
        request_at(world, request).state = records.TOKEN_RUNNING
        request_at(world, request).chunk = chunk
        take_memory(world, r, chunk, now_s)
        budget -= chunk
    return evicted


@compiled
def start_chunked(world: World, r: int, now_s: float) -> None:
    """Run a replica's next iteration, or its next run of token iterations, or leave the replica idle.

    A chunk takes the time of a prompt of its size and the extra time of its attention to the ``before`` tokens of its
    prompt: (P(before + chunk) - P(before)) - (P(chunk) - P(1)), if positive.
    """
    replica = replica_at(world, r)
    evicted = _schedule(world, r, now_s)
    batch = list_at(world, LISTS * r + BATCH)
    kind = replica.type
    sequences, context, tokens, prompts = 0, 0, 0, 0
    further_s = 0.0
    shortest = 1 << 60
    for i in range(batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.chunk == 1 and this.computed >= this.prompt_tokens:
            sequences += 1
            context += this.computed + 1
            shortest = min(shortest, this.remaining)
        elif this.chunk > 0:
            prompts += 1
            tokens += this.chunk
            if this.computed > 0:
                whole_s = prompt_s(world, kind, this.computed + this.chunk) - prompt_s(world, kind, this.computed)
                further_s += max(whole_s - (prompt_s(world, kind, this.chunk) - prompt_s(world, kind, 1)), 0.0)
    replica.prompts_running = prompts
    replica.prompt_tokens = tokens
    replica.batch_tokens = tokens + sequences
    iterations = 1
    if sequences > 0 and not evicted:  # a sequence that was evicted may come back after the next iteration
        free = int(replica.capacity_tokens) - replica.used_tokens
        iterations = min(shortest, 1 + max(free, 0) // sequences)
    begin(world, r, sequences, context, iterations, further_s, now_s)


@compiled
def arrive_chunked(world: World, r: int, request: int, now_s: float) -> None:
    """Add an arriving request: it starts an idle replica, or ends a run of token iterations if the batch has room."""
    this, replica = request_at(world, request), replica_at(world, r)
    account(world, r, now_s)
    this.state = records.PROMPT_WAITING
    this.computed = this.chunk = 0
    this.remaining = this.output_tokens
    insert_sorted(world, LISTS * r + PROMPTS_WAITING, request)
    insert_sorted(world, LISTS * r + PRESENT, request)
    replica.most_waiting = max(replica.most_waiting, list_at(world, LISTS * r + PROMPTS_WAITING).length)
    if replica.doing == records.IDLE:
        make_ready(world, r)
    elif replica.doing == records.TOKEN_RUN and list_at(world, LISTS * r + BATCH).length < world.batch_requests:
        end_run(world, r, now_s)
