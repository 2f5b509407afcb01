"""Compiled data structures of the event loop: growing lists in one arena, winner trees, a heap with changing keys.

All are exact and deterministic: ties go to the lower stamp, replica or request.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from provisioner.simulation.records import LISTS, World

INFINITE = float("inf")


# --- lists: ``lists[k]`` is the part of the arena from ``start`` with ``room`` places, ``length`` used from ``head`` ---


@njit(nogil=True)
def _grow(world: World, k: int) -> None:
    """Double a list's room at the end of the arena; its old part is not used again."""
    this, clock = world.lists[k], world.clock[0]
    room = max(2 * this.room, 8)
    start = clock.arena_free
    for i in range(this.length):
        world.arena[start + i] = world.arena[this.start + this.head + i]
    this.start, this.room, this.head = start, room, 0
    clock.arena_free = start + room
    clock.largest_room = max(clock.largest_room, room)


@njit(nogil=True)
def append(world: World, k: int, value: int) -> None:
    """Add a value at the end of a list."""
    this = world.lists[k]
    if this.head + this.length == this.room:
        if this.head > this.room // 2:
            for i in range(this.length):
                world.arena[this.start + i] = world.arena[this.start + this.head + i]
            this.head = 0
        else:
            _grow(world, k)
    world.arena[this.start + this.head + this.length] = value
    this.length += 1


@njit(nogil=True)
def insert(world: World, k: int, position: int, value: int) -> None:
    """Insert a value before a position of a list."""
    append(world, k, value)
    this = world.lists[k]
    at = this.start + this.head
    for i in range(this.length - 1, position, -1):
        world.arena[at + i] = world.arena[at + i - 1]
    world.arena[at + position] = value


@njit(nogil=True)
def remove_at(world: World, k: int, position: int) -> None:
    """Remove the value at a position of a list."""
    this = world.lists[k]
    this.length -= 1
    if position == 0:
        this.head = this.head + 1 if this.length > 0 else 0
        return
    at = this.start + this.head
    for i in range(position, this.length):
        world.arena[at + i] = world.arena[at + i + 1]


@njit(nogil=True)
def remove(world: World, k: int, value: int) -> None:
    """Remove the first place of a value from a list that holds it."""
    this = world.lists[k]
    at = this.start + this.head
    for i in range(this.length):
        if world.arena[at + i] == value:
            remove_at(world, k, i)
            return


@njit(nogil=True)
def insert_sorted(world: World, k: int, value: int) -> None:
    """Insert a value into an ascending list."""
    this = world.lists[k]
    at = this.start + this.head
    if this.length == 0 or world.arena[at + this.length - 1] < value:
        append(world, k, value)
        return
    low, high = 0, this.length
    while low < high:
        middle = (low + high) // 2
        if value < world.arena[at + middle]:
            high = middle
        else:
            low = middle + 1
    insert(world, k, low, value)


@njit(nogil=True)
def remove_sorted(world: World, k: int, value: int) -> None:
    """Remove a value from an ascending list that holds it."""
    this = world.lists[k]
    at = this.start + this.head
    low, high = 0, this.length
    while low < high:
        middle = (low + high) // 2
        if world.arena[at + middle] < value:
            low = middle + 1
        else:
            high = middle
    remove_at(world, k, low)


# --- winner trees: node i has the children 2 i and 2 i + 1; leaf r is node leaves + r, -1 where there is none ---


@njit(nogil=True)
def update_pending(world: World, r: int) -> None:
    """Repair the pool's tree of least pending tokens from a replica's leaf upwards."""
    tree = world.trees[2 * world.replicas[r].pool]
    node = (tree.shape[0] // 2 + r) >> 1
    while node >= 1:
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = a
        if a < 0:
            winner = b
        elif b >= 0:
            left, right = world.replicas[a], world.replicas[b]
            if right.pending_tokens < left.pending_tokens or (
                right.pending_tokens == left.pending_tokens and right.stamp < left.stamp
            ):
                winner = b
        if tree[node] == winner and winner != r:
            return
        tree[node] = winner
        node >>= 1


@njit(nogil=True)
def update_scheduled(world: World, r: int) -> None:
    """Repair the pool's tree of least scheduled memory from a replica's leaf upwards."""
    tree = world.trees[2 * world.replicas[r].pool + 1]
    node = (tree.shape[0] // 2 + r) >> 1
    while node >= 1:
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = a
        if a < 0:
            winner = b
        elif b >= 0:
            left, right = world.replicas[a], world.replicas[b]
            if right.scheduled_tokens < left.scheduled_tokens or (
                right.scheduled_tokens == left.scheduled_tokens and right.stamp < left.stamp
            ):
                winner = b
        if tree[node] == winner and winner != r:
            return
        tree[node] = winner
        node >>= 1


@njit(nogil=True)
def set_leaf(world: World, r: int, present: bool) -> None:
    """Put a replica into its pool's trees, or take it out."""
    pool = world.replicas[r].pool
    leaf = world.trees.shape[1] // 2 + r
    value = r if present else -1
    world.trees[2 * pool, leaf] = value
    world.trees[2 * pool + 1, leaf] = value
    if present:
        update_pending(world, r)
        update_scheduled(world, r)
    else:
        _clear_path(world, 2 * pool, r)
        _clear_path(world, 2 * pool + 1, r)


@njit(nogil=True)
def _clear_path(world: World, t: int, r: int) -> None:
    """Play again the matches that a replica that has left its tree had won."""
    tree = world.trees[t]
    node = (tree.shape[0] // 2 + r) >> 1
    while node >= 1:
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = a
        if a < 0:
            winner = b
        elif b >= 0:
            left, right = world.replicas[a], world.replicas[b]
            mine, theirs = left.pending_tokens, right.pending_tokens
            if t % 2 == 1:
                mine, theirs = left.scheduled_tokens, right.scheduled_tokens
            if theirs < mine or (theirs == mine and right.stamp < left.stamp):
                winner = b
        tree[node] = winner
        node >>= 1


@njit(nogil=True)
def set_end(world: World, r: int, end_s: float) -> None:
    """Set the time at which a replica's work ends (infinite: none) and repair the tree of ends."""
    world.replicas[r].end_s = end_s
    tree = world.ends
    node = (tree.shape[0] // 2 + r) >> 1
    while node >= 1:
        a, b = tree[2 * node], tree[2 * node + 1]
        winner = a
        if b >= 0 and world.replicas[b].end_s < world.replicas[a].end_s:
            winner = b
        if tree[node] == winner and winner != r:
            return
        tree[node] = winner
        node >>= 1


# --- the heap of transfers' next events, by time, then by request ---


@njit(nogil=True)
def _before(world: World, a: int, b: int) -> bool:
    first, second = world.requests[a], world.requests[b]
    return bool(first.event_s < second.event_s or (first.event_s == second.event_s and a < b))


@njit(nogil=True)
def _sift(world: World, i: int) -> None:
    """Move the request at place ``i`` of the heap to where it belongs."""
    heap, size = world.heap, world.clock[0].heap_size
    request = heap[i]
    while i > 0 and _before(world, request, heap[(i - 1) // 2]):
        heap[i] = heap[(i - 1) // 2]
        world.requests[heap[i]].heap_at = i
        i = (i - 1) // 2
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _before(world, heap[child + 1], heap[child]):
            child += 1
        if not _before(world, heap[child], request):
            break
        heap[i] = heap[child]
        world.requests[heap[i]].heap_at = i
        i = child
    heap[i] = request
    world.requests[request].heap_at = i


@njit(nogil=True)
def push(world: World, request: int, time_s: float) -> None:
    """Add a request's event, or move it in time."""
    this, clock = world.requests[request], world.clock[0]
    this.event_s = time_s
    if this.heap_at < 0:
        this.heap_at = clock.heap_size
        world.heap[clock.heap_size] = request
        clock.heap_size += 1
    _sift(world, this.heap_at)


@njit(nogil=True)
def withdraw(world: World, request: int) -> None:
    """Take a request's event out of the heap."""
    this, clock = world.requests[request], world.clock[0]
    at = this.heap_at
    this.heap_at = -1
    clock.heap_size -= 1
    if at < clock.heap_size:
        last = world.heap[clock.heap_size]
        world.heap[at] = last
        world.requests[last].heap_at = at
        _sift(world, at)


@njit(nogil=True)
def list_of(r: int, kind: int) -> int:
    """Index of a replica's list."""
    return LISTS * r + kind


def empty_trees(leaves: int, pools: int) -> Any:
    """Trees without replicas: (2 * pools, 2 * leaves)."""
    import numpy as np

    return np.full((2 * pools, 2 * leaves), -1, dtype=np.int32)
