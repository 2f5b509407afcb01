"""The event loop (compiled): arrivals, ends of iterations, transfers and outages in order of time.

Between changes of a replica's batch its iterations are advanced in one step, so that a request costs a handful of
events however many tokens it has. ``advance`` returns after so many events, and goes on where it stopped.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

from provisioner.simulation.machine import busy_kind, overlap_s, start
from provisioner.simulation.records import (
    BATCH,
    FINISHED,
    LISTS,
    MIXED,
    NEEDS_ROOM,
    NO_ROOM,
    PAUSED,
    PRESENT,
    PROMPTS,
    REJECTED,
    STUCK,
    TOKEN_WAITING,
    TOKENS,
    World,
)
from provisioner.simulation.routing import route
from provisioner.simulation.structures import INFINITE, remove_sorted, update_pending, update_scheduled, withdraw
from provisioner.simulation.transfers import admit_blocked, complete, finish_transfer, start_transfer

TTFT, TBT, E2E = 0, 1, 2


@njit(nogil=True)
def _count(world: World, request: int, metric: int, seconds: float) -> bool:
    """Count a request against the limits on a metric; whether one of them is broken for certain."""
    this = world.requests[request]
    if not this.counted:
        return False
    reference_s = this.reference_ttft_s
    if metric == TBT:
        reference_s = this.reference_tbt_s
    elif metric == E2E:
        reference_s = this.reference_e2e_s
    rejected = False
    for i in range(world.limits.shape[0]):
        limit = world.limits[i]
        if limit.metric == metric and seconds > limit.value * (reference_s if limit.slowdown else 1.0):
            limit.beyond += 1
            rejected = rejected or limit.beyond > limit.most
    return rejected


@njit(nogil=True)
def _first_token(world: World, request: int, now_s: float) -> bool:
    """Note a request's first token; whether a limit is broken for certain."""
    this = world.requests[request]
    this.token_s = now_s
    if this.first_s == this.first_s:
        return False  # given before its machine failed
    this.first_s = now_s
    return _count(world, request, TTFT, now_s - this.arrival_s)


@njit(nogil=True)
def _complete(world: World, r: int, request: int, now_s: float) -> bool:
    """Complete a request; whether a limit is broken for certain."""
    complete(world, r, request, now_s)
    this = world.requests[request]
    rejected = _count(world, request, E2E, now_s - this.arrival_s)
    gaps = this.output_tokens if world.rules[0].tbt_by_output else this.output_tokens - 1
    if gaps > 0:
        rejected = _count(world, request, TBT, (now_s - this.first_s) / gaps) or rejected
    remove_sorted(world, LISTS * r + PRESENT, request)
    world.replicas[r].pending_tokens -= 1
    update_pending(world, r)
    return rejected


@njit(nogil=True)
def _note_run(world: World, r: int, now_s: float) -> None:
    """Add the work that ends to the busy times, the batch sizes and the timeline."""
    this, clock = world.replicas[r], world.clock[0]
    kind = busy_kind(world, r)
    size = world.lists[LISTS * r + BATCH].length
    passed_s = overlap_s(world, this.start_s, now_s)
    if kind == PROMPTS:
        this.prompts_busy_s += passed_s
    elif kind == TOKENS:
        this.tokens_busy_s += passed_s
    elif kind == MIXED:
        this.mixed_busy_s += passed_s
    world.batch_time_s[this.slot, size] += passed_s
    if world.segments.shape[0] > 0:
        segment = world.segments[clock.segments]
        segment.start_s, segment.end_s = this.start_s, now_s
        segment.replica, segment.kind, segment.batch = r, kind, size
        segment.prompt_tokens = this.prompt_tokens
        clock.segments += 1


@njit(nogil=True)
def _finish_work(world: World, r: int, now_s: float) -> bool:
    """The work of a replica ends: tasks complete in batch order, then it chooses its next batch."""
    replica = world.replicas[r]
    _note_run(world, r, now_s)
    iterations = replica.run_iterations
    batch = world.lists[LISTS * r + BATCH]
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
    for i in range(size):
        task = world.arena[at + i]
        if task >= 0:
            this = world.requests[task]
            replica.pending_tokens -= this.prompt_tokens
            rejected = _first_token(world, task, now_s) or rejected
            if this.output_tokens <= 1:
                rejected = _finish_single(world, r, task, now_s) or rejected
                freed = True
            elif this.token_at == r:
                this.state = TOKEN_WAITING
                this.preemptions = replica.choices
                replica.behind -= 1
            else:
                remove_sorted(world, LISTS * r + PRESENT, task)
                start_transfer(world, task, now_s)
            continue
        this = world.requests[-1 - task]
        gap_s = max(first_gap_s - this.token_s, last_gap_s if iterations > 1 else 0.0)
        this.largest_gap_s = max(this.largest_gap_s, gap_s)
        this.token_s = now_s
        if this.ends_at > replica.iterations:
            world.arena[at + kept] = task
            kept += 1
            continue
        replica.context_tokens -= this.prompt_tokens + this.output_tokens
        rejected = _complete(world, r, -1 - task, now_s) or rejected
        freed = True
    batch.length = kept
    if replica.prompts_running > 0:
        update_pending(world, r)
    if freed:
        admit_blocked(world, r, now_s)
    start(world, r, now_s)
    return rejected


@njit(nogil=True)
def _finish_single(world: World, r: int, request: int, now_s: float) -> bool:
    """Complete a request of one output token, which ends with its prompt: nothing goes to its token replica."""
    this = world.requests[request]
    if this.token_at != r:
        token = world.replicas[this.token_at]
        if token.epoch == this.token_epoch:
            token.scheduled_tokens -= this.prompt_tokens + 1
            token.pending_tokens -= 1
            update_scheduled(world, this.token_at)
            update_pending(world, this.token_at)
        world.replicas[r].pending_tokens += 1
    return _complete(world, r, request, now_s)


@njit(nogil=True)
def _advance(world: World, most_events: int) -> int:
    """Process events until the end, or one of the reasons to return."""
    clock = world.clock[0]
    requests, count = world.requests, world.requests.shape[0]
    stop_at = clock.events + most_events
    idle_retries = 0
    while True:
        if clock.events >= stop_at:
            return PAUSED
        if clock.arena_free + 16 * clock.largest_room + 8192 > world.arena.shape[0]:
            return NEEDS_ROOM
        if world.segments.shape[0] > 0 and clock.segments == world.segments.shape[0]:
            return NEEDS_ROOM
        first = world.ends[1]
        end_s = world.replicas[first].end_s
        transfer_s = INFINITE
        if clock.heap_size > 0:
            transfer_s = requests[world.heap[0]].event_s
        arrival_s = INFINITE
        if clock.next_request < clock.released:
            arrival_s = requests[clock.next_request].arrival_s
        if end_s <= transfer_s and end_s <= arrival_s:
            if end_s == INFINITE:
                return FINISHED if clock.done == count else STUCK
            clock.now_s = end_s
            idle_retries = 0
            if _finish_work(world, first, end_s):
                return REJECTED
        elif transfer_s <= arrival_s:
            clock.now_s = transfer_s
            request = world.heap[0]
            withdraw(world, request)
            if requests[request].state == NO_ROOM:
                if start_transfer(world, request, transfer_s):
                    idle_retries = 0
                else:
                    idle_retries += 1
                    nothing_else = clock.moving == 0 and end_s == INFINITE and arrival_s == INFINITE
                    if nothing_else and idle_retries > 2 * clock.heap_size:
                        return STUCK
            else:
                idle_retries = 0
                finish_transfer(world, request, transfer_s)
        else:
            clock.now_s = arrival_s
            idle_retries = 0
            clock.in_system += 1
            request = clock.next_request
            clock.next_request += 1
            route(world, request, arrival_s)
            if clock.next_request == count:
                clock.last_arrival_s = arrival_s
                clock.left_at_last_arrival = clock.in_system
        clock.events += 1


def _sources() -> str:
    """Digest of the compiled sources: with it in the cache's key, a change in any of them compiles anew."""
    digest = sha256()
    for name in ("records", "structures", "machine", "transfers", "routing", "engine"):
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _cached(digest: str) -> Any:
    """The event loop, compiled once per machine and kept in numba's cache."""

    @njit(nogil=True, cache=True)
    def advance(world: World, most_events: int) -> int:
        """Process at most so many events; why it returned."""
        return _advance(world, most_events) + len(digest) - 64

    return advance


advance = _cached(_sources())
