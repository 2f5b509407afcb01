"""KV caches on their way from prompt to token replicas (compiled): room at the destination, links, memory freed.

A transfer begins when the prompt ends and takes its memory at the destination then. Transfers of a replica share its
link equally, and each is as fast as the slower of its two shares.
"""

from __future__ import annotations

from provisioner.simulation.machine import arrive_tokens, take_memory, wake
from provisioner.simulation.pointers import arena_at, compiled, list_at, prompt_s, replica_at, request_at, type_at
from provisioner.simulation.records import BLOCKED, DONE, LANDING, LISTS, NO_ROOM, TRANSFERRING, World
from provisioner.simulation.structures import append, push, remove_first, update_scheduled


@compiled
def memory_to_receive(world: World, request: int) -> int:
    """KV tokens that a transfer takes at its destination."""
    this = request_at(world, request)
    return this.prompt_tokens + (this.output_tokens if world.reserve_whole else 1)


@compiled
def start_transfer(world: World, request: int, now_s: float) -> bool:
    """Send a request's KV cache, or wait for room at its destination; return whether it is on its way."""
    this = request_at(world, request)
    source, target = replica_at(world, this.prompt_at), replica_at(world, this.token_at)
    tokens = memory_to_receive(world, request)
    if target.used_tokens + tokens > target.capacity_tokens:
        if this.state != NO_ROOM:
            this.state = NO_ROOM
            if world.retry_s == 0.0:
                append(world, LISTS * this.token_at + BLOCKED, request)
        if world.retry_s > 0.0:
            world.retries += 1
            push(world, request, now_s + world.retry_s)
        return False
    take_memory(world, this.token_at, tokens, now_s)
    this.state = TRANSFERRING
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
    this.bytes_left = volume
    if world.share_links:
        this.since_s = now_s
        this.bytes_per_s = link
        _join_links(world, request)
        share_links(world, this.prompt_at, this.token_at, now_s)
    else:
        push(world, request, now_s + volume / link)
    return True


@compiled
def void_prompt(world: World, request: int, now_s: float) -> None:
    """Free the KV cache that a request's prompt left on its prompt replica."""
    this = request_at(world, request)
    freed = this.prompt_tokens + 1
    take_memory(world, this.prompt_at, -freed, now_s)
    replica_at(world, this.prompt_at).scheduled_tokens -= freed
    update_scheduled(world, this.prompt_at)


@compiled
def finish_transfer(world: World, request: int, now_s: float) -> None:
    """End a transfer whose bytes are sent: free its links, and land the KV cache at once or after a last exchange."""
    this = request_at(world, request)
    if this.state == TRANSFERRING:
        if world.share_links:
            leave_links(world, request)
            share_links(world, this.prompt_at, this.token_at, now_s)
        if this.landing_s > 0.0:
            this.state = LANDING
            push(world, request, now_s + this.landing_s)
            return
    world.moving -= 1
    void_prompt(world, request, now_s)
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
        remove_first(world, k)


@compiled
def complete(world: World, r: int, request: int, now_s: float) -> None:
    """Complete a request on a replica: note its times, and free all that it held."""
    this, replica = request_at(world, request), replica_at(world, r)
    this.state = DONE
    this.last_s = now_s
    world.done += 1
    world.in_system -= 1
    take_memory(world, r, -(this.prompt_tokens + this.output_tokens), now_s)
    replica.scheduled_tokens -= this.prompt_tokens + this.output_tokens
    update_scheduled(world, r)
    if world.closed_loop and world.released < world.count:
        request_at(world, world.released).arrival_s = now_s
        world.released += 1


@compiled
def _join_links(world: World, request: int) -> None:
    """Put a transfer at the head of the lists of transfers from its source and to its destination."""
    this = request_at(world, request)
    source, target = replica_at(world, this.prompt_at), replica_at(world, this.token_at)
    this.previous_out, this.next_out = -1, source.first_out
    if source.first_out >= 0:
        request_at(world, source.first_out).previous_out = request
    source.first_out = request
    source.out_flows += 1
    this.previous_in, this.next_in = -1, target.first_in
    if target.first_in >= 0:
        request_at(world, target.first_in).previous_in = request
    target.first_in = request
    target.in_flows += 1


@compiled
def leave_links(world: World, request: int) -> None:
    """Take a transfer out of both lists."""
    this = request_at(world, request)
    source, target = replica_at(world, this.prompt_at), replica_at(world, this.token_at)
    if this.previous_out >= 0:
        request_at(world, this.previous_out).next_out = this.next_out
    else:
        source.first_out = this.next_out
    if this.next_out >= 0:
        request_at(world, this.next_out).previous_out = this.previous_out
    source.out_flows -= 1
    if this.previous_in >= 0:
        request_at(world, this.previous_in).next_in = this.next_in
    else:
        target.first_in = this.next_in
    if this.next_in >= 0:
        request_at(world, this.next_in).previous_in = this.previous_in
    target.in_flows -= 1


@compiled
def share_links(world: World, source: int, target: int, now_s: float) -> None:
    """Set the speed of every transfer that leaves ``source`` or reaches ``target``."""
    flow = replica_at(world, source).first_out
    while flow >= 0:
        _set_speed(world, flow, now_s)
        flow = request_at(world, flow).next_out
    flow = replica_at(world, target).first_in
    while flow >= 0:
        _set_speed(world, flow, now_s)
        flow = request_at(world, flow).next_in


@compiled
def _set_speed(world: World, request: int, now_s: float) -> None:
    """Set a transfer's speed to the slower of its equal shares of two links, and the time at which it then ends."""
    this = request_at(world, request)
    source, target = replica_at(world, this.prompt_at), replica_at(world, this.token_at)
    speed = min(
        type_at(world, source.type).link_bytes_per_s / source.out_flows,
        type_at(world, target.type).link_bytes_per_s / target.in_flows,
    )
    if speed == this.bytes_per_s and this.heap_at >= 0:
        return
    this.bytes_left = max(this.bytes_left - this.bytes_per_s * (now_s - this.since_s), 0.0)
    this.since_s = now_s
    this.bytes_per_s = speed
    push(world, request, now_s + this.bytes_left / speed)
