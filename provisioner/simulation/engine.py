"""The event loop (compiled): arrivals, ends of iterations, transfers and outages in order of time.

Between changes of a replica's batch its iterations are advanced in one step, so that a request costs a handful of
events however many tokens it has. ``advance`` returns after a given number of events; the next call continues.
"""

from collections.abc import Callable

from provisioner.simulation import pointers, records
from provisioner.simulation.chunked import start_chunked
from provisioner.simulation.estimate import end_iterations
from provisioner.simulation.machine import first_and_last, make_ready, note_run, note_tokens, start, take_memory
from provisioner.simulation.minima import ENDS, least, promise
from provisioner.simulation.outages import bring_back, restart, take_down, void_tokens
from provisioner.simulation.pointers import arena_at, compiled, heap_at, list_at, outage_at, replica_at, request_at
from provisioner.simulation.records import BATCH, FRESH, LISTS, PRESENT, World
from provisioner.simulation.routing import route
from provisioner.simulation.structures import INFINITE, insert_sorted, push, remove_sorted, withdraw
from provisioner.simulation.transfers import admit_blocked, finish_transfer, start_transfer, void_prompt

TOGETHER = records.TOGETHER
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
    for i in range(world.limits_count):
        limit = pointers.limit_at(world, i)
        if limit.metric == metric and seconds > limit.value * (reference_s if limit.slowdown else 1.0):
            limit.beyond += 1
            rejected = rejected or limit.beyond > limit.most
    return rejected


@compiled
def _count_once(world: World, request: int) -> bool:
    """Count a complete request that is beyond any limit to be held together; return whether too many are."""
    this = request_at(world, request)
    gaps = this.output_tokens if world.tbt_by_output else this.output_tokens - 1
    first, beyond = -1, False
    for i in range(world.limits_count - 1, -1, -1):  # they stand behind the others
        limit = pointers.limit_at(world, i)
        metric = limit.metric - TOGETHER
        if metric < 0:
            break
        first = i
        seconds, reference_s = this.first_s - this.arrival_s, this.reference_ttft_s
        if metric == E2E:
            seconds, reference_s = this.last_s - this.arrival_s, this.reference_e2e_s
        elif metric == TBT:
            seconds, reference_s = (this.last_s - this.first_s) / max(gaps, 1), this.reference_tbt_s
        elif metric == GAP:
            seconds, reference_s = this.largest_gap_s, this.reference_tbt_s
        has = metric in (TTFT, E2E) or (gaps > 0 if metric == TBT else this.output_tokens > 1)
        beyond = beyond or (has and seconds > limit.value * (reference_s if limit.slowdown else 1.0))
    if not (beyond and this.counted):
        return False
    limit = pointers.limit_at(world, first)
    limit.beyond += 1
    return bool(limit.beyond > limit.most)


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
    """Complete a request: note its times, free all that it held; return whether a limit is broken for certain."""
    this = request_at(world, request)
    this.state = records.DONE
    this.last_s = now_s
    world.done += 1
    world.in_system -= 1
    held = this.prompt_tokens + this.output_tokens
    take_memory(world, r, -held, now_s)
    promise(world, r, -1, -held)
    remove_sorted(world, LISTS * r + PRESENT, request)
    if world.closed_loop and world.released < world.requests_count:
        request_at(world, world.released).arrival_s = now_s
        world.released += 1
    if world.turns_count > 0:
        turn = pointers.turn_at(world, pointers.turn_at(world, request).number)
        if turn.next > 0:
            world.moving += 1
            push(world, turn.next, now_s + turn.delay_s)
    rejected = _count(world, request, E2E, now_s - this.arrival_s)
    gaps = this.output_tokens if world.tbt_by_output else this.output_tokens - 1
    if gaps > 0:
        rejected = _count(world, request, TBT, (now_s - this.first_s) / gaps) or rejected
    if this.output_tokens > 1:
        rejected = _count(world, request, GAP, this.largest_gap_s) or rejected
    return _count_once(world, request) or rejected


@compiled
def _take_place(world: World, waiting: int, now_s: float) -> int:
    """Give a turn that arrives the next place in order of arrival; return the place."""
    turn, request = request_at(world, waiting), world.next_request
    this = request_at(world, request)
    pointers.turn_at(world, request).number = waiting - world.requests_count
    this.arrival_s = now_s
    this.prompt_tokens, this.output_tokens = turn.prompt_tokens, turn.output_tokens
    this.reference_ttft_s, this.reference_tbt_s = turn.reference_ttft_s, turn.reference_tbt_s
    this.reference_e2e_s = turn.reference_e2e_s
    this.counted = int(world.from_s <= now_s <= world.until_s)
    world.in_system += 1
    world.next_request += 1
    if world.next_request == world.requests_count:
        world.until_s = min(world.until_s, now_s)
    return int(request)


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
    first_token_s, last_gap_s = first_and_last(world, r, iterations)
    rejected = freed = False
    at = batch.start + batch.head
    size, batch.length = batch.length, 0
    kept = 0
    first_end = records.NEVER
    for i in range(size):
        task = arena_at(world, at + i).value
        if task >= 0:
            this = request_at(world, task)
            promise(world, r, -this.prompt_tokens, 0)
            rejected = _first_token(world, task, now_s) or rejected
            if this.output_tokens <= 1:  # it ends here: nothing goes to its token replica
                if this.token_at != r:
                    void_tokens(world, task)
                    promise(world, r, 1, 0)  # which ``_complete`` takes back
                rejected = _complete(world, r, task, now_s) or rejected
                freed = True
            elif this.token_at == r:
                this.state = records.TOKEN_WAITING
                pointers.waiting_at(world, -1 - task).base = replica.choices
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
        note_tokens(world, -1 - task, first_token_s, last_gap_s, now_s)
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
    if freed:
        admit_blocked(world, r, now_s)
    make_ready(world, r)
    return rejected


@compiled
def _hand_over(world: World, r: int, request: int, now_s: float) -> bool:
    """End a request's prompt on its prompt replica: its first token, and the way of its KV cache, if any.

    Return whether a limit is broken for certain.
    """
    this = request_at(world, request)
    rejected = False
    promise(world, r, -this.prompt_tokens, 0)
    if world.first_at_prompt:
        this.remaining -= 1
        replica_at(world, r).generated_tokens += 1
        rejected = _first_token(world, request, now_s)
        if this.remaining == 0:
            void_tokens(world, request)
            promise(world, r, 1, 0)  # which ``_complete`` takes back
            return _complete(world, r, request, now_s) or rejected
    remove_sorted(world, LISTS * r + PRESENT, request)
    if replica_at(world, this.token_at).epoch == this.token_epoch:
        start_transfer(world, request, now_s)
    else:  # its token machine has failed since
        void_prompt(world, request, now_s)
        restart(world, request, now_s)
    return rejected


@compiled
def _finish_chunked(world: World, r: int, now_s: float) -> bool:
    """End the work of a replica with chunked prefill: prompts move on, sequences get tokens, it schedules again."""
    replica = replica_at(world, r)
    note_run(world, r, now_s)
    iterations = replica.run_iterations
    batch = list_at(world, LISTS * r + BATCH)
    first_token_s, last_gap_s = first_and_last(world, r, iterations)
    goes_on = not (world.prompts_first or world.estimates)  # each sequence, with a token of every iteration
    rejected = False
    at = batch.start + batch.head
    size, batch.length = batch.length, 0
    kept = steady = context = 0
    first_end = records.NEVER
    for i in range(size):
        request = arena_at(world, at + i).value
        this = request_at(world, request)
        chunk = this.chunk
        if chunk == 0:  # it had to wait
            arena_at(world, at + kept).value = request
            kept += 1
            continue
        this.computed += chunk
        this.chunk = 0
        generated = this.output_tokens - this.remaining
        decodes = this.state == records.TOKEN_RUNNING
        if decodes and iterations > 1:
            this.computed += iterations - 1
            if not world.reserve_whole:
                take_memory(world, r, iterations - 1, now_s)
        if decodes or this.computed >= this.prompt_tokens + generated:
            if not decodes:
                if this.token_at != r:
                    rejected = _hand_over(world, r, request, now_s) or rejected
                    continue
                this.state = records.TOKEN_RUNNING
            this.remaining -= iterations
            replica.generated_tokens += iterations
            if generated == 0:
                if not world.strict:  # whose router counts the requests of a token replica
                    promise(world, r, -this.prompt_tokens, 0)
                rejected = _first_token(world, request, now_s) or rejected
            else:
                note_tokens(world, request, first_token_s, last_gap_s, now_s)
            if this.remaining == 0:
                if not world.reserve_whole:
                    replica.used_tokens += 1  # the last token is not cached; ``complete`` gives back all tokens
                rejected = _complete(world, r, request, now_s) or rejected
                continue
            if goes_on and steady == kept:
                this.chunk = 1
                steady += 1
                context += this.computed + 1
                first_end = min(first_end, this.remaining)
        arena_at(world, at + kept).value = request
        kept += 1
    batch.length = kept
    replica.steady, replica.context_tokens, replica.first_end = steady, context, first_end
    if world.estimates:
        end_iterations(world, r, size, iterations)
    make_ready(world, r)
    return rejected


def functions(sources: str) -> dict[str, Callable[..., int]]:
    """The functions of ``entries.ENTRIES`` by name, with the digest of their sources in the key of numba's cache."""

    def advance(address: int, most_events: int) -> int:
        """Process at most ``most_events`` events of the world at an address; return why it stopped."""
        world = pointers.world_at(address)
        if len(sources) == 0:
            return records.PAUSED
        stop_at = world.events + most_events
        idle_retries = 0
        while True:
            if world.events >= stop_at:
                return records.PAUSED
            if world.arena_free + 16 * world.largest_room + 8192 > world.arena_count:
                return records.NEEDS_ROOM
            if world.segments_count > 0 and world.segments_used == world.segments_count:
                return records.NEEDS_ROOM
            if world.next_request == world.fed:
                return records.NEEDS_REQUESTS
            if world.ready >= 0:
                r = world.ready
                world.ready = replica_at(world, r).next_ready
                if world.chunked:
                    start_chunked(world, r, world.now_s)
                else:
                    start(world, r, world.now_s)
                continue
            r = least(world, ENDS)
            end_s = pointers.value_at(world, world.tree_nodes * ENDS).value
            transfer_s = arrival_s = outage_s = INFINITE
            if world.heap_size > 0:
                transfer_s = request_at(world, heap_at(world, 0).value).event_s
            if world.next_request < world.released:
                arrival_s = request_at(world, world.next_request).arrival_s
            if world.next_outage < world.outages_count:
                outage_s = outage_at(world, world.next_outage).time_s
            due_s = min(end_s, transfer_s, arrival_s, outage_s)
            if world.done == world.requests_count:
                return records.FINISHED
            if due_s == INFINITE:
                return records.STUCK
            if due_s == outage_s:
                return records.OUTAGE_DUE
            world.now_s = due_s
            idle = False
            if due_s == end_s:
                rejected = _finish_chunked(world, r, due_s) if world.chunked else _finish_work(world, r, due_s)
                if rejected:
                    return records.REJECTED
            elif due_s == transfer_s:
                request = heap_at(world, 0).value
                withdraw(world, request)
                state = request_at(world, request).state
                if state == records.RESTARTING or state == records.NOT_ARRIVED:
                    world.moving -= 1
                    if state == records.NOT_ARRIVED:
                        request = _take_place(world, request, due_s)
                    route(world, request, due_s)
                elif state != records.NO_ROOM:
                    finish_transfer(world, request, due_s)
                else:
                    idle = not start_transfer(world, request, due_s)
                    nothing_else = world.moving == 0 and min(end_s, arrival_s, outage_s) == INFINITE
                    if idle and nothing_else and idle_retries >= 2 * world.heap_size:
                        return records.STUCK
            else:
                world.in_system += 1
                world.next_request += 1
                route(world, world.next_request - 1, due_s)
            idle_retries = idle_retries + 1 if idle else 0
            world.events += 1

    def apply_outage(address: int) -> int:
        """Take the machine of the next outage down, or bring it back."""
        world = pointers.world_at(address)
        if len(sources) == 0:
            return records.PAUSED
        outage = outage_at(world, world.next_outage)
        world.next_outage += 1
        world.events += 1
        world.now_s = outage.time_s
        if outage.up:
            bring_back(world, outage.machine, outage.time_s)
        else:
            take_down(world, outage.machine, outage.time_s)
        return records.PAUSED

    return {function.__name__: function for function in (advance, apply_outage)}
