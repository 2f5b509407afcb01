"""Token replicas that receive KV caches under an engine's own scheduler (compiled): room for them, and their arrival.

Room is what a replica has left at that moment: the tokens of the iterations of a run that have begun since its start
are counted, and a run ends where the memory that a KV cache takes leaves its next iteration none.
"""

from provisioner.simulation import records
from provisioner.simulation.estimate import kept_tokens, wanted_tokens
from provisioner.simulation.machine import complete_iterations, end_run, make_ready, run_s
from provisioner.simulation.minima import set_end
from provisioner.simulation.pointers import arena_at, compiled, list_at, replica_at, request_at
from provisioner.simulation.records import BATCH, BLOCKED, FRESH, LISTS, PREEMPTED, PRESENT, PROMPTS_WAITING, World
from provisioner.simulation.structures import insert_sorted


@compiled
def _iterations_begun(world: World, r: int, now_s: float) -> int:
    """Iterations of a replica's token run that have begun after its first, whose memory it took at the start."""
    this = replica_at(world, r)
    if this.doing != records.TOKEN_RUN or world.reserve_whole:
        return 0
    return int(min(complete_iterations(world, r, now_s), this.run_iterations - 1))


@compiled
def has_room(world: World, request: int, tokens: int, now_s: float) -> bool:
    """Whether a KV cache may come to its token replica: in order, behind sequences that were evicted there."""
    this = request_at(world, request)
    r = this.token_at
    replica = replica_at(world, r)
    waiting, blocked = list_at(world, LISTS * r + PROMPTS_WAITING), list_at(world, LISTS * r + BLOCKED)
    if list_at(world, LISTS * r + PREEMPTED).length > 0:
        return False
    if waiting.length > 0 and arena_at(world, waiting.start + waiting.head).value < request:
        return False
    if this.state != records.NO_ROOM and blocked.length > 0:
        return False
    used = replica.used_tokens + _iterations_begun(world, r, now_s) * replica.batch_tokens
    if world.estimates:
        tokens += int(kept_tokens(world, r)) + wanted_tokens(world, r, request)
    return bool(used + tokens <= replica.capacity_tokens)


@compiled
def shorten_run(world: World, r: int, now_s: float) -> None:
    """End a token run before the iteration for which memory was just taken by another."""
    this = replica_at(world, r)
    if this.doing != records.TOKEN_RUN or world.reserve_whole:
        return
    begun = _iterations_begun(world, r, now_s)
    free = int(this.capacity_tokens) - this.used_tokens - begun * this.batch_tokens
    most = begun + 1 + max(free, 0) // this.batch_tokens
    if this.run_iterations > most:
        this.run_iterations = most
        set_end(world, r, this.start_s + run_s(world, r, most))


@compiled
def arrive_cache(world: World, r: int, request: int, now_s: float) -> None:
    """Add a request whose KV cache is complete: it joins the batch with the next iteration, if that has room."""
    this, replica = request_at(world, request), replica_at(world, r)
    this.state = records.TOKEN_WAITING
    this.computed = this.prompt_tokens - 1 + world.first_at_prompt  # without: the last prompt token is computed here
    insert_sorted(world, LISTS * r + PRESENT, request)
    insert_sorted(world, LISTS * r + FRESH, request)
    if replica.doing == records.IDLE:
        make_ready(world, r)
    elif replica.doing == records.TOKEN_RUN and list_at(world, LISTS * r + BATCH).length < world.batch_requests:
        end_run(world, r, now_s)
