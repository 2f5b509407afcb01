"""Machines that fail and come back (compiled): work lost, memory freed, and requests started again.

As in the paper, requests on a failed machine start again from scratch. A first token that was already given keeps its
time; the cost of the failure shows in the time between tokens.
"""

from provisioner.simulation import records
from provisioner.simulation.machine import (
    account,
    complete_iterations,
    first_and_last,
    note_run,
    note_tokens,
    overlap_s,
    run_s,
    take_memory,
    wake,
)
from provisioner.simulation.minima import enter_pool, leave_pool, promise, set_end
from provisioner.simulation.pointers import arena_at, compiled, list_at, replica_at, request_at
from provisioner.simulation.records import BATCH, BLOCKED, FRESH, LISTS, PREEMPTED, PRESENT, PROMPTS_WAITING, World
from provisioner.simulation.structures import INFINITE, clear_tasks, push, remove, withdraw
from provisioner.simulation.transfers import admit_blocked, leave_links, memory_to_receive, void_prompt


@compiled
def restart(world: World, request: int, now_s: float) -> None:
    """Send a request whose machine failed through the cluster again, from scratch."""
    this = request_at(world, request)
    this.state = records.RESTARTING
    this.restarts += 1
    world.moving += 1
    push(world, request, now_s)


@compiled
def void_tokens(world: World, request: int) -> None:
    """Take back a request's claims on its token replica, unless the replica has failed since."""
    this = request_at(world, request)
    if replica_at(world, this.token_at).epoch == this.token_epoch:
        promise(world, this.token_at, -1, -(this.prompt_tokens + this.output_tokens))


@compiled
def _drop_transfer(world: World, request: int, now_s: float) -> None:
    """Stop a transfer, or the wait for room, of a request with a failed replica; free the other replica."""
    this = request_at(world, request)
    token_lives = replica_at(world, this.token_at).doing != records.DOWN
    if this.state == records.TRANSFERRING or this.state == records.LANDING:
        if token_lives:
            take_memory(world, this.token_at, -memory_to_receive(world, request), now_s)
            replica_at(world, this.token_at).receiving -= 1
        if this.state == records.TRANSFERRING and world.share_links:
            leave_links(world, request, now_s)
        world.moving -= 1
    elif token_lives and world.retry_s == 0.0:
        remove(world, LISTS * this.token_at + BLOCKED, request)
    if this.heap_at >= 0:
        withdraw(world, request)
    void_tokens(world, request)
    if token_lives:
        admit_blocked(world, this.token_at, now_s)
        wake(world, this.token_at, now_s)
    if replica_at(world, this.prompt_at).doing != records.DOWN:
        void_prompt(world, request, now_s)
        admit_blocked(world, this.prompt_at, now_s)
        wake(world, this.prompt_at, now_s)


@compiled
def _note_tokens(world: World, r: int, now_s: float) -> None:
    """Note the tokens that a failing replica's run has given."""
    replica, batch = replica_at(world, r), list_at(world, LISTS * r + BATCH)
    complete = complete_iterations(world, r, now_s) if replica.doing == records.TOKEN_RUN else 0
    if complete == 0:
        return
    until_s = replica.start_s + run_s(world, r, complete)
    first_s, last_gap_s = first_and_last(world, r, complete)
    for i in range(batch.length):
        task = arena_at(world, batch.start + batch.head + i).value
        request = task if task >= 0 else -1 - task
        if request_at(world, request).chunk > 0 or not world.chunked:
            note_tokens(world, request, first_s, last_gap_s, until_s)


@compiled
def take_down(world: World, machine: int, now_s: float) -> None:
    """Take down a machine: its replicas lose everything, and every request on them starts again from scratch."""
    for r in range(world.replicas_count):
        replica = replica_at(world, r)
        if replica.machine != machine or replica.doing == records.DOWN:
            continue
        if replica.doing != records.IDLE:
            note_run(world, r, now_s)
            _note_tokens(world, r, now_s)
        account(world, r, now_s)
        leave_pool(world, r)
        if replica.pool != replica.home:
            replica.mixed_pool_s += overlap_s(world, replica.mixed_since_s, now_s)
            replica.pool = replica.home
        replica.doing = records.DOWN
        replica.epoch += 1
        replica.pending_tokens = replica.scheduled_tokens = replica.used_tokens = 0
        replica.context_tokens = replica.prompts_running = replica.behind = replica.steady = 0
        replica.full = replica.shrunk = replica.receiving = 0
        replica.share = world.first_share
        replica.first_end = records.NEVER
        clear_tasks(world, LISTS * r + records.WAITING)
        for kind in (BATCH, PROMPTS_WAITING, PRESENT, PREEMPTED, BLOCKED, FRESH):
            list_at(world, LISTS * r + kind).length = 0
            list_at(world, LISTS * r + kind).head = 0
        set_end(world, r, INFINITE)
    for request in range(world.oldest, world.next_request):
        this = request_at(world, request)
        state = this.state
        if state in (records.NOT_ARRIVED, records.DONE, records.HELD, records.RESTARTING):
            continue
        prompt_fails = replica_at(world, this.prompt_at).machine == machine
        token_fails = replica_at(world, this.token_at).machine == machine and (
            replica_at(world, this.token_at).epoch != this.token_epoch
        )
        if state in (records.PROMPT_WAITING, records.PROMPT_RUNNING):
            if prompt_fails:
                void_tokens(world, request)
                restart(world, request, now_s)
        elif state in (records.TOKEN_WAITING, records.TOKEN_RUNNING, records.RECOMPUTING):
            if token_fails:
                restart(world, request, now_s)
        elif prompt_fails or token_fails:
            _drop_transfer(world, request, now_s)
            restart(world, request, now_s)


@compiled
def bring_back(world: World, machine: int, now_s: float) -> None:
    """Bring back a machine, empty, at the end of its pool's list; route again the requests that none could take."""
    for r in range(world.replicas_count):
        replica = replica_at(world, r)
        if replica.machine == machine and replica.doing == records.DOWN:
            replica.doing = records.IDLE
            enter_pool(world, r)
    for request in range(world.oldest, world.next_request if world.held > 0 else 0):
        if request_at(world, request).state == records.HELD:
            request_at(world, request).state = records.RESTARTING
            world.held -= 1
            world.moving += 1
            push(world, request, now_s)
