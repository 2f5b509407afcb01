"""KV caches on their way from prompt to token replicas (compiled): room at the destination, links, memory freed.

A transfer begins when the prompt ends and takes its memory at the destination then. Transfers of a replica share its
link equally, and each is as fast as the slower of its two shares.
"""

from provisioner.simulation.machine import arrive_tokens, take_memory, wake
from provisioner.simulation.minima import promise
from provisioner.simulation.pointers import arena_at, compiled, list_at, prompt_s, replica_at, request_at, type_at
from provisioner.simulation.receiving import arrive_cache, has_room, shorten_run
from provisioner.simulation.records import BLOCKED, LANDING, LISTS, NO_ROOM, RECEIVING, SENDING, TRANSFERRING, World
from provisioner.simulation.structures import append, push, remove, remove_at


@compiled
def memory_to_receive(world: World, request: int) -> int:
    """KV tokens that a transfer takes at its destination."""
    this = request_at(world, request)
    return this.prompt_tokens + (this.output_tokens if world.reserve_whole else world.first_at_prompt)


@compiled
def start_transfer(world: World, request: int, now_s: float) -> bool:
    """Send a request's KV cache, or wait for room at its destination; return whether it is on its way."""
    this = request_at(world, request)
    source, target = replica_at(world, this.prompt_at), replica_at(world, this.token_at)
    tokens = memory_to_receive(world, request)
    if world.strict:
        room = has_room(world, request, tokens, now_s)
    else:
        room = target.used_tokens + tokens <= target.capacity_tokens
    if not room:
        if this.state != NO_ROOM:
            this.state = NO_ROOM
            if world.retry_s == 0.0:
                append(world, LISTS * this.token_at + BLOCKED, request)
        if world.retry_s > 0.0:
            world.retries += 1
            push(world, request, now_s + world.retry_s)
        return False
    take_memory(world, this.token_at, tokens, now_s)
    if world.strict:
        shorten_run(world, this.token_at, now_s)
    this.state = TRANSFERRING
    target.receiving += 1
    world.moving += 1
    link = min(type_at(world, source.type).link_bytes_per_s, type_at(world, target.type).link_bytes_per_s)
    volume = world.kv_bytes_per_token * this.prompt_tokens
    this.landing_s = 0.0
    if world.per_layer_fixed_s > 0.0:
        alone_s = prompt_s(world, source.type, this.prompt_tokens)
        left = max(volume / world.layers, volume - link * alone_s)
        if left / link + world.per_layer_fixed_s < volume / link:
            volume = left
            this.landing_s = world.per_layer_fixed_s
    this.landing_s += world.handover_s
    this.bytes_left = volume
    if world.share_links:
        this.since_s = now_s
        this.bytes_per_s = link
        append(world, LISTS * this.prompt_at + SENDING, request)
        append(world, LISTS * this.token_at + RECEIVING, request)
        _share_links(world, request, now_s)
    else:
        push(world, request, now_s + volume / link)
    return True


@compiled
def void_prompt(world: World, request: int, now_s: float) -> None:
    """Free the KV cache that a request's prompt left on its prompt replica."""
    this = request_at(world, request)
    freed = this.prompt_tokens + 1
    take_memory(world, this.prompt_at, -freed, now_s)
    promise(world, this.prompt_at, 0, -freed)


@compiled
def finish_transfer(world: World, request: int, now_s: float) -> None:
    """End a transfer whose bytes are sent: free its links, and land the KV cache at once or after a last exchange."""
    this = request_at(world, request)
    if this.state == TRANSFERRING:
        if world.share_links:
            leave_links(world, request, now_s)
        if this.landing_s > 0.0:
            this.state = LANDING
            push(world, request, now_s + this.landing_s)
            return
    world.moving -= 1
    replica_at(world, this.token_at).receiving -= 1
    void_prompt(world, request, now_s)
    if world.strict:
        arrive_cache(world, this.token_at, request, now_s)
    else:
        arrive_tokens(world, this.token_at, request, now_s)
    admit_blocked(world, this.prompt_at, now_s)
    wake(world, this.prompt_at, now_s)


@compiled
def admit_blocked(world: World, r: int, now_s: float) -> None:
    """Start the transfers that wait for room on a replica with freed memory, in order, while they fit."""
    k = LISTS * r + BLOCKED
    blocked = list_at(world, k)
    while blocked.length > 0:
        if not start_transfer(world, arena_at(world, blocked.start + blocked.head).value, now_s):
            return
        remove_at(world, k, 0)


@compiled
def leave_links(world: World, request: int, now_s: float) -> None:
    """End a transfer's use of both links; the others get its shares."""
    this = request_at(world, request)
    remove(world, LISTS * this.prompt_at + SENDING, request)
    remove(world, LISTS * this.token_at + RECEIVING, request)
    _share_links(world, request, now_s)


@compiled
def _share_links(world: World, request: int, now_s: float) -> None:
    """Set the speed of every transfer over a link of the request's: the slower of its equal shares of two links."""
    this = request_at(world, request)
    for k in (LISTS * this.prompt_at + SENDING, LISTS * this.token_at + RECEIVING):
        flows = list_at(world, k)
        for i in range(flows.length):
            flow = arena_at(world, flows.start + flows.head + i).value
            other = request_at(world, flow)
            source, target = replica_at(world, other.prompt_at), replica_at(world, other.token_at)
            sent = list_at(world, LISTS * other.prompt_at + SENDING).length
            received = list_at(world, LISTS * other.token_at + RECEIVING).length
            out_bytes_per_s = type_at(world, source.type).link_bytes_per_s / sent
            speed = min(out_bytes_per_s, type_at(world, target.type).link_bytes_per_s / received)
            if speed == other.bytes_per_s and other.heap_at >= 0:
                continue
            other.bytes_left = max(other.bytes_left - other.bytes_per_s * (now_s - other.since_s), 0.0)
            other.since_s = now_s
            other.bytes_per_s = speed
            push(world, flow, now_s + other.bytes_left / speed)
