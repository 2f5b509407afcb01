"""Admission by an estimate of the output (compiled), as SGLang's scheduler admits, and evicts where it was too low.

A replica that computes prompts and decodes keeps room for a share of what its sequences may still generate, and for all
output of the prompts that end in the iteration. The share falls while it decodes and rises when one is evicted. Once a
request found no room the replica is full, and tries again after the iteration that decodes next once a sequence
has ended. A token replica of strict pools keeps a fixed number of tokens for each request. The most output of a
request stands for what its client declares.
"""

from provisioner.simulation import records
from provisioner.simulation.pointers import arena_at, compiled, list_at, replica_at, request_at
from provisioner.simulation.records import BATCH, FRESH, LISTS, PROMPTS_WAITING, World


@compiled
def kept_tokens(world: World, r: int) -> float:
    """Tokens that a replica keeps for the output of the requests that it has."""
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    if world.strict:
        holders = batch.length + list_at(world, LISTS * r + FRESH).length + replica.receiving
        return float(world.reserved_tokens * holders)
    whole, left = 0, 0
    for i in range(batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.state == records.TOKEN_RUNNING:
            left += min(this.remaining, world.clip_tokens)
        elif this.chunk == this.prompt_tokens + this.output_tokens - this.remaining - this.computed:
            whole += min(this.output_tokens, world.clip_tokens)
    return whole + replica.share * left


@compiled
def wanted_tokens(world: World, r: int, request: int) -> int:
    """Tokens that a request needs free for its output when it joins; an empty token replica takes it without."""
    if world.strict:
        return int(world.reserved_tokens if replica_at(world, r).used_tokens > 0 else 0)
    return int(min(request_at(world, request).remaining, world.clip_tokens))


@compiled
def joined_tokens(world: World, request: int, ends: bool) -> int:
    """Tokens that are kept for a request beside those that join in the iteration, in which its prompt ends or not."""
    if world.strict:
        return int(world.reserved_tokens)
    return int(min(request_at(world, request).output_tokens, world.clip_tokens)) if ends else 0


@compiled
def first_to_evict(world: World, r: int) -> int:
    """Place in the batch of the sequence that is evicted first, if the next iteration has no room; -1 if it has.

    It has the fewest tokens generated, of equals the longest prompt, of equals it joined last.
    """
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    sequences, place, fewest, longest = 0, -1, 0, 0
    for i in range(batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.state != records.TOKEN_RUNNING:
            continue
        sequences += 1
        generated = this.output_tokens - this.remaining
        if place < 0 or generated < fewest or (generated == fewest and this.prompt_tokens >= longest):
            place, fewest, longest = i, generated, this.prompt_tokens
    return place if replica.used_tokens + sequences > replica.capacity_tokens else -1


@compiled
def raise_share(world: World, r: int) -> None:
    """Set the share after an eviction: of the most output of the sequences that are left, what they soon have."""
    batch = list_at(world, LISTS * r + BATCH)
    soon, most = 0, 0
    for i in range(batch.length):
        this = request_at(world, arena_at(world, batch.start + batch.head + i).value)
        if this.state == records.TOKEN_RUNNING:
            soon += this.output_tokens - this.remaining + world.retract_tokens
            most += this.output_tokens
    replica_at(world, r).share = min(soon / (most + 1.0), 1.0)


@compiled
def begin_iteration(world: World, r: int, sequences: int, prompts: int, evicted: bool) -> bool:
    """Note what begins; return whether waiting requests may join after its first iteration."""
    replica = replica_at(world, r)
    replica.retracted = evicted
    if evicted or (prompts == 0 and (replica.shrunk or sequences == 0)):
        replica.full = 0
    if prompts > 0:
        return False
    replica.shrunk = 0
    if sequences == 0:
        replica.share = world.first_share
    return bool(not world.strict and not replica.full and list_at(world, LISTS * r + PROMPTS_WAITING).length > 0)


@compiled
def end_iterations(world: World, r: int, size: int, iterations: int) -> None:
    """Note that iterations of a batch of ``size`` requests have ended, and those that completed have left it."""
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    ended = batch.length < size
    if replica.prompts_running == 0:
        if not replica.retracted:
            replica.share = max(replica.share - iterations * world.share_fall, world.least_share)
        replica.shrunk = replica.shrunk or ended
    else:
        alone = size == replica.prompts_running or not world.prompts_first
        for i in range(batch.length):
            task = arena_at(world, batch.start + batch.head + i).value
            ended = ended or request_at(world, task).state != records.TOKEN_RUNNING
        if ended or alone:
            replica.full = 0
    if batch.length == 0:
        replica.full = replica.shrunk = 0
