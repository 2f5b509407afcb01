"""The event loop (compiled): arrivals, ends of iterations, transfers and outages in order of time.

Between changes of a replica's batch its iterations are advanced in one step, so that a request costs a handful of
events however many tokens it has. ``advance`` returns after a given number of events; the next call continues.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

from provisioner.simulation import records
from provisioner.simulation.chunked import start_chunked
from provisioner.simulation.machine import choose, make_ready, note_run, start, take_memory
from provisioner.simulation.outages import bring_back, restart, take_down, void_tokens
from provisioner.simulation.pointers import (
    arena_at,
    compiled,
    ends_at,
    heap_at,
    limit_at,
    list_at,
    outage_at,
    replica_at,
    request_at,
)
from provisioner.simulation.records import BATCH, FRESH, LISTS, PRESENT, World
from provisioner.simulation.routing import route
from provisioner.simulation.structures import INFINITE, insert_sorted, remove_sorted, update_pending, withdraw
from provisioner.simulation.transfers import admit_blocked, complete, finish_transfer, start_transfer, void_prompt

# Positions in records.LIMITED.
TTFT, TBT, E2E, GAP = 0, 1, 2, 3


@compiled
def _count(world: World, request: int, metric: int, seconds: float) -> bool:
    """Count a request against the limits on a metric; return whether one of them is broken for certain."""
    this = request_at(world, request)
    if not this.counted:
        return False
    reference_s = this.reference_ttft_s
    if metric in (TBT, GAP):
        reference_s = this.reference_tbt_s
    elif metric == E2E:
        reference_s = this.reference_e2e_s
    rejected = False
    for i in range(world.limit_count):
        limit = limit_at(world, i)
        if limit.metric == metric and seconds > limit.value * (reference_s if limit.slowdown else 1.0):
            limit.beyond += 1
            rejected = rejected or limit.beyond > limit.most
    return rejected


@compiled
def _first_token(world: World, request: int, now_s: float) -> bool:
    """Note a request's first token; return whether a limit is broken for certain."""
    this = request_at(world, request)
    if this.first_s == this.first_s:  # it was given before its machine failed
        this.largest_gap_s = max(this.largest_gap_s, now_s - this.token_s)
        this.token_s = now_s
        return False
    this.token_s = now_s
    this.first_s = now_s
    return _count(world, request, TTFT, now_s - this.arrival_s)


@compiled
def _complete(world: World, r: int, request: int, now_s: float) -> bool:
    """Complete a request; return whether a limit is broken for certain."""
    complete(world, r, request, now_s)
    this = request_at(world, request)
    rejected = _count(world, request, E2E, now_s - this.arrival_s)
    gaps = this.output_tokens if world.tbt_by_output else this.output_tokens - 1
    if gaps > 0:
        rejected = _count(world, request, TBT, (now_s - this.first_s) / gaps) or rejected
    if this.output_tokens > 1:
        rejected = _count(world, request, GAP, this.largest_gap_s) or rejected
    remove_sorted(world, LISTS * r + PRESENT, request)
    replica_at(world, r).pending_tokens -= 1
    update_pending(world, r)
    return rejected


@compiled
def _finish_work(world: World, r: int, now_s: float) -> bool:
    """End the work of a replica: tasks complete in batch order, then it chooses its next batch."""
    replica = replica_at(world, r)
    note_run(world, r, now_s)
    iterations = replica.run_iterations
    batch = list_at(world, LISTS * r + BATCH)
    sequences = batch.length - replica.prompts_running
    replica.iterations += iterations
    replica.context_tokens += iterations * sequences
    replica.generated_tokens += iterations * sequences + replica.prompts_running
    first_gap_s = replica.start_s + replica.base_s
    last_gap_s = replica.base_s + replica.growth_s * (iterations - 1)
    rejected = False
    freed = False
    at = batch.start + batch.head
    size, batch.length = batch.length, 0
    kept = 0
    first_end = records.NEVER
    for i in range(size):
        task = arena_at(world, at + i).value
        if task >= 0:
            this = request_at(world, task)
            replica.pending_tokens -= this.prompt_tokens
            rejected = _first_token(world, task, now_s) or rejected
            if this.output_tokens <= 1:
                rejected = _finish_single(world, r, task, now_s) or rejected
                freed = True
            elif this.token_at == r:
                this.state = records.TOKEN_WAITING
                this.preemptions = replica.choices
                replica.behind -= 1
                insert_sorted(world, LISTS * r + FRESH, task)
            else:
                remove_sorted(world, LISTS * r + PRESENT, task)
                if replica_at(world, this.token_at).epoch == this.token_epoch:
                    start_transfer(world, task, now_s)
                else:  # its token machine has failed since
                    void_prompt(world, task, now_s)
                    freed = True
                    restart(world, task, now_s)
            continue
        this = request_at(world, -1 - task)
        gap_s = max(first_gap_s - this.token_s, last_gap_s if iterations > 1 else 0.0)
        this.largest_gap_s = max(this.largest_gap_s, gap_s)
        this.token_s = now_s
        if this.ends_at > replica.iterations:
            first_end = min(first_end, this.ends_at)
            arena_at(world, at + kept).value = task
            kept += 1
            continue
        replica.context_tokens -= this.prompt_tokens + this.output_tokens
        rejected = _complete(world, r, -1 - task, now_s) or rejected
        freed = True
    batch.length = kept
    replica.first_end = first_end
    if replica.prompts_running > 0:
        update_pending(world, r)
    if freed:
        admit_blocked(world, r, now_s)
    make_ready(world, r)
    return rejected


@compiled
def _finish_single(world: World, r: int, request: int, now_s: float) -> bool:
    """Complete a request of one output token, which ends with its prompt: nothing goes to its token replica."""
    if request_at(world, request).token_at != r:
        void_tokens(world, request)
        replica_at(world, r).pending_tokens += 1
    return _complete(world, r, request, now_s)


@compiled
def _finish_chunked(world: World, r: int, now_s: float) -> bool:
    """End the work of a replica with chunked prefill: sequences get their tokens, then it schedules again."""
    replica = replica_at(world, r)
    note_run(world, r, now_s)
    iterations = replica.run_iterations
    batch = list_at(world, LISTS * r + BATCH)
    first_gap_s = replica.start_s + replica.base_s
    last_gap_s = replica.base_s + replica.growth_s * (iterations - 1)
    rejected = False
    at = batch.start + batch.head
    size, batch.length = batch.length, 0
    kept = 0
    for i in range(size):
        request = arena_at(world, at + i).value
        this = request_at(world, request)
        generated = this.output_tokens - this.remaining
        this.computed += this.chunk
        if iterations > 1:
            take_memory(world, r, iterations - 1, now_s)
            this.computed += iterations - 1
        if this.computed >= this.prompt_tokens + generated:
            this.remaining -= iterations
            replica.generated_tokens += iterations
            if generated == 0:
                replica.pending_tokens -= this.prompt_tokens
                update_pending(world, r)
                rejected = _first_token(world, request, now_s) or rejected
            else:
                gap_s = max(first_gap_s - this.token_s, last_gap_s if iterations > 1 else 0.0)
                this.largest_gap_s = max(this.largest_gap_s, gap_s)
                this.token_s = now_s
            if this.remaining == 0:
                replica.used_tokens += 1  # the last token is not cached; ``complete`` gives back all tokens
                rejected = _complete(world, r, request, now_s) or rejected
                continue
        arena_at(world, at + kept).value = request
        kept += 1
    batch.length = kept
    make_ready(world, r)
    return rejected


_COMPILED = ("records", "pointers", "structures", "machine", "transfers", "chunked", "outages", "routing", "engine")


def _sources() -> str:
    """Digest of the compiled sources; it is in the cache's key, so that a change in any of them recompiles."""
    digest = sha256()
    for name in _COMPILED:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _kept(function: Any) -> Any:
    """Compiled function, kept in numba's cache: beside the sources, or in the user's cache folder."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder can be written: it is compiled in every process
        return njit(nogil=True)(function)


def _event_loop(digest: str) -> Any:
    """Event loop, with the digest of its sources in the cache's key."""

    def advance(worlds: Any, most_events: int) -> int:
        """Process at most ``most_events`` events of a world, an array of one record; return why it stopped."""
        world = worlds[0]
        if len(digest) == 0:
            return records.PAUSED
        stop_at = world.events + most_events
        idle_retries = 0
        while True:
            if world.events >= stop_at:
                return records.PAUSED
            if world.arena_free + 16 * world.largest_room + 8192 > world.arena_room:
                return records.NEEDS_ROOM
            if world.segment_room > 0 and world.segments_used == world.segment_room:
                return records.NEEDS_ROOM
            if world.ready >= 0:
                r = world.ready
                world.ready = replica_at(world, r).next_ready
                if world.chunked:
                    start_chunked(world, r, world.now_s)
                else:
                    start(world, r, choose(world, r, world.now_s), world.now_s)
                continue
            first = ends_at(world, 1).value
            end_s = replica_at(world, first).end_s
            transfer_s = INFINITE
            if world.heap_size > 0:
                transfer_s = request_at(world, heap_at(world, 0).value).event_s
            arrival_s = INFINITE
            if world.next_request < world.released:
                arrival_s = request_at(world, world.next_request).arrival_s
            outage_s = INFINITE
            if world.next_outage < world.outage_count:
                outage_s = outage_at(world, world.next_outage).time_s
            if world.done == world.count:
                return records.FINISHED
            if outage_s <= end_s and outage_s <= transfer_s and outage_s <= arrival_s and outage_s < INFINITE:
                return records.OUTAGE_DUE
            elif end_s <= transfer_s and end_s <= arrival_s:
                if end_s == INFINITE:
                    return records.STUCK
                world.now_s = end_s
                idle_retries = 0
                rejected = _finish_chunked(world, first, end_s) if world.chunked else _finish_work(world, first, end_s)
                if rejected:
                    return records.REJECTED
            elif transfer_s <= arrival_s:
                world.now_s = transfer_s
                request = heap_at(world, 0).value
                withdraw(world, request)
                if request_at(world, request).state == records.RESTARTING:
                    world.moving -= 1
                    route(world, request, transfer_s)
                elif request_at(world, request).state == records.NO_ROOM:
                    if start_transfer(world, request, transfer_s):
                        idle_retries = 0
                    else:
                        idle_retries += 1
                        nothing_else = (
                            world.moving == 0 and end_s == INFINITE and arrival_s == INFINITE and outage_s == INFINITE
                        )
                        if nothing_else and idle_retries > 2 * world.heap_size:
                            return records.STUCK
                else:
                    idle_retries = 0
                    finish_transfer(world, request, transfer_s)
            else:
                world.now_s = arrival_s
                idle_retries = 0
                world.in_system += 1
                request = world.next_request
                world.next_request += 1
                route(world, request, arrival_s)
            world.events += 1

    return _kept(advance)


def _outage(digest: str) -> Any:
    """Function that applies an outage, apart from the loop: few runs have any, the others need not compile it."""

    def apply_outage(worlds: Any) -> None:
        """Take the machine of the next outage down, or bring it back."""
        world = worlds[0]
        if len(digest) == 0:
            return
        outage = outage_at(world, world.next_outage)
        world.next_outage += 1
        world.events += 1
        world.now_s = outage.time_s
        if outage.up:
            bring_back(world, outage.machine, outage.time_s)
        else:
            take_down(world, outage.machine, outage.time_s)

    return _kept(apply_outage)


advance = _event_loop(_sources())
apply_outage = _outage(_sources())
