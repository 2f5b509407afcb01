"""KV caches on their way from prompt to token replicas (compiled): room at the destination, links, what is freed.

A transfer begins when the prompt ends and takes its memory at the destination then. Transfers of a replica share its
link equally, and each goes as fast as the slower of its two shares.
"""

from __future__ import annotations

from numba import njit

from provisioner.simulation.machine import arrive_tokens, take_memory, wake
from provisioner.simulation.records import BLOCKED, DONE, LANDING, LISTS, NO_ROOM, TRANSFERRING, World
from provisioner.simulation.structures import append, push, remove_at, update_scheduled


@njit(nogil=True)
def memory_to_receive(world: World, request: int) -> int:
    """KV tokens that a transfer takes at its destination."""
    this = world.requests[request]
    return this.prompt_tokens + (this.output_tokens if world.rules[0].reserve_whole else 1)


@njit(nogil=True)
def start_transfer(world: World, request: int, now_s: float) -> bool:
    """Send a request's KV cache, or wait for room at its destination; whether it is on its way."""
    this, rules, clock = world.requests[request], world.rules[0], world.clock[0]
    source, target = world.replicas[this.prompt_at], world.replicas[this.token_at]
    tokens = memory_to_receive(world, request)
    if target.used_tokens + tokens > target.capacity_tokens:
        if this.state != NO_ROOM:
            this.state = NO_ROOM
            if rules.retry_s == 0.0:
                append(world, LISTS * this.token_at + BLOCKED, request)
        if rules.retry_s > 0.0:
            clock.retries += 1
            push(world, request, now_s + rules.retry_s)
        return False
    take_memory(world, this.token_at, tokens, now_s)
    this.state = TRANSFERRING
    clock.moving += 1
    link = min(world.types[source.type].link_bytes_per_s, world.types[target.type].link_bytes_per_s)
    volume = rules.kv_bytes_per_token * this.prompt_tokens
    this.landing_s = 0.0
    if rules.per_layer_fixed_s > 0.0:
        alone_s = world.prompt_s[source.type, this.prompt_tokens]
        left = max(volume / rules.layers, volume - link * alone_s)
        if left / link + rules.per_layer_fixed_s < volume / link:
            volume = left
            this.landing_s = rules.per_layer_fixed_s
    this.bytes_left = volume
    if rules.share_links:
        this.since_s = now_s
        this.bytes_per_s = link
        _join_links(world, request)
        _share_links(world, this.prompt_at, this.token_at, now_s)
    else:
        push(world, request, now_s + volume / link)
    return True


@njit(nogil=True)
def finish_transfer(world: World, request: int, now_s: float) -> None:
    """All bytes are sent: the links are free for others, and the KV cache lands, at once or after a last exchange."""
    this, rules, clock = world.requests[request], world.rules[0], world.clock[0]
    if this.state == TRANSFERRING:
        if rules.share_links:
            _leave_links(world, request)
            _share_links(world, this.prompt_at, this.token_at, now_s)
        if this.landing_s > 0.0:
            this.state = LANDING
            push(world, request, now_s + this.landing_s)
            return
    clock.moving -= 1
    freed = this.prompt_tokens + 1
    source = world.replicas[this.prompt_at]
    take_memory(world, this.prompt_at, -freed, now_s)
    source.scheduled_tokens -= freed
    update_scheduled(world, this.prompt_at)
    arrive_tokens(world, this.token_at, request, now_s)
    admit_blocked(world, this.prompt_at, now_s)
    wake(world, this.prompt_at, now_s)


@njit(nogil=True)
def admit_blocked(world: World, r: int, now_s: float) -> None:
    """Memory was freed on a replica: start the transfers that wait for room there, in order, while they fit."""
    k = LISTS * r + BLOCKED
    blocked = world.lists[k]
    while blocked.length > 0:
        if not start_transfer(world, world.arena[blocked.start + blocked.head], now_s):
            return
        remove_at(world, k, 0)


@njit(nogil=True)
def complete(world: World, r: int, request: int, now_s: float) -> None:
    """A request is complete on a replica: its times, and all that it held there."""
    this, clock, replica = world.requests[request], world.clock[0], world.replicas[r]
    this.state = DONE
    this.last_s = now_s
    clock.done += 1
    clock.in_system -= 1
    take_memory(world, r, -(this.prompt_tokens + this.output_tokens), now_s)
    replica.scheduled_tokens -= this.prompt_tokens + this.output_tokens
    update_scheduled(world, r)
    if world.rules[0].closed_loop and clock.released < world.requests.shape[0]:
        world.requests[clock.released].arrival_s = now_s
        clock.released += 1


@njit(nogil=True)
def _join_links(world: World, request: int) -> None:
    """Put a transfer at the head of the lists of those that leave its source and that reach its destination."""
    this = world.requests[request]
    source, target = world.replicas[this.prompt_at], world.replicas[this.token_at]
    this.previous_out, this.next_out = -1, source.first_out
    if source.first_out >= 0:
        world.requests[source.first_out].previous_out = request
    source.first_out = request
    source.out_flows += 1
    this.previous_in, this.next_in = -1, target.first_in
    if target.first_in >= 0:
        world.requests[target.first_in].previous_in = request
    target.first_in = request
    target.in_flows += 1


@njit(nogil=True)
def _leave_links(world: World, request: int) -> None:
    """Take a transfer out of both lists."""
    this = world.requests[request]
    source, target = world.replicas[this.prompt_at], world.replicas[this.token_at]
    if this.previous_out >= 0:
        world.requests[this.previous_out].next_out = this.next_out
    else:
        source.first_out = this.next_out
    if this.next_out >= 0:
        world.requests[this.next_out].previous_out = this.previous_out
    source.out_flows -= 1
    if this.previous_in >= 0:
        world.requests[this.previous_in].next_in = this.next_in
    else:
        target.first_in = this.next_in
    if this.next_in >= 0:
        world.requests[this.next_in].previous_in = this.previous_in
    target.in_flows -= 1


@njit(nogil=True)
def _share_links(world: World, source: int, target: int, now_s: float) -> None:
    """Set the speed of every transfer that leaves ``source`` or reaches ``target``."""
    flow = world.replicas[source].first_out
    while flow >= 0:
        _set_speed(world, flow, now_s)
        flow = world.requests[flow].next_out
    flow = world.replicas[target].first_in
    while flow >= 0:
        _set_speed(world, flow, now_s)
        flow = world.requests[flow].next_in


@njit(nogil=True)
def _set_speed(world: World, request: int, now_s: float) -> None:
    """The slower of a transfer's equal shares of its two links, and when it ends at that."""
    this = world.requests[request]
    source, target = world.replicas[this.prompt_at], world.replicas[this.token_at]
    speed = min(
        world.types[source.type].link_bytes_per_s / source.out_flows,
        world.types[target.type].link_bytes_per_s / target.in_flows,
    )
    if speed == this.bytes_per_s and this.heap_at >= 0:
        return
    this.bytes_left = max(this.bytes_left - this.bytes_per_s * (now_s - this.since_s), 0.0)
    this.since_s = now_s
    this.bytes_per_s = speed
    push(world, request, now_s + this.bytes_left / speed)
