"""Replicas with the least of a value (compiled): trees with sixteen children a node, compared when they are asked.

A tree holds a value for each replica, and a stamp that decides between equal ones. Node 0 is the root, the children of
node i are 16 i + 1 to 16 i + 16. A value that falls moves up as far as it is the least. Where the least itself rises,
the nodes above become unknown, and only the next question compares their children: most changes in between are free.
"""

from typing import Final

from provisioner.simulation.pointers import (
    compiled,
    have_value,
    leader_at,
    least_value,
    lowest_bit,
    replica_at,
    value_at,
)
from provisioner.simulation.records import NEVER, NONE, SHIFT, World
from provisioner.simulation.structures import INFINITE

# Trees: of all replicas by the end of their work, and, 2 p further for pool p, of its replicas.
ENDS: Final = 0
PENDING: Final = 1
SCHEDULED: Final = 2

UNKNOWN: Final = -INFINITE  # the least value below a node is to be found again


@compiled
def _set(world: World, tree: int, r: int, value: float, stamp: int, replica: int) -> None:
    """Set a replica's leaf in a tree (infinite, ``NEVER`` and ``NONE``: it is no member) and what follows above it."""
    root = world.tree_nodes * tree
    node = world.first_leaf + r
    least, leader = value_at(world, root + node), leader_at(world, root + node)
    falls = value < least.value or (value == least.value and stamp < leader.stamp)
    least.value, leader.stamp, leader.replica = value, stamp, replica
    while node > 0:
        node = (node - 1) >> SHIFT
        least, leader = value_at(world, root + node), leader_at(world, root + node)
        if least.value == UNKNOWN:
            continue  # nodes above it may be known
        if falls:
            if value > least.value or (value == least.value and stamp > leader.stamp):
                return
            least.value, leader.stamp, leader.replica = value, stamp, replica
        elif leader.replica == r:
            least.value = UNKNOWN
        else:
            return


@compiled
def _change(world: World, tree: int, r: int, value: float) -> None:
    """Change the value of a replica in a tree, if it is a member."""
    leader = leader_at(world, world.tree_nodes * tree + world.first_leaf + r)
    if leader.replica != NONE:
        _set(world, tree, r, value, leader.stamp, r)


@compiled
def least(world: World, tree: int) -> int:
    """Replica with the least value of a tree, of equal ones with the lowest stamp; -1 (``NONE``) without any."""
    root = world.tree_nodes * tree
    node = 0
    while value_at(world, root).value == UNKNOWN:
        first = root + (node << SHIFT) + 1
        value = least_value(world, first)
        equal = have_value(world, first, value)
        best = lowest_bit(equal)
        if value == UNKNOWN:
            node = (node << SHIFT) + 1 + best
            continue
        equal &= equal - 1
        while equal != 0 and value < INFINITE:
            other = lowest_bit(equal)
            if leader_at(world, first + other).stamp < leader_at(world, first + best).stamp:
                best = other
            equal &= equal - 1
        value_at(world, root + node).value = value
        leader, new = leader_at(world, root + node), leader_at(world, first + best)
        leader.replica, leader.stamp = new.replica, new.stamp
        node = (node - 1) >> SHIFT
    return int(leader_at(world, root).replica)


@compiled
def promise(world: World, r: int, pending_tokens: int, scheduled_tokens: int) -> None:
    """Promise a replica's work and KV memory, or take it back where negative; update its pool's trees."""
    this = replica_at(world, r)
    tree = 2 * this.pool
    if pending_tokens != 0:
        this.pending_tokens += pending_tokens
        _change(world, tree + PENDING, r, float(this.pending_tokens))
    if scheduled_tokens != 0:
        this.scheduled_tokens += scheduled_tokens
        _change(world, tree + SCHEDULED, r, float(this.scheduled_tokens))


@compiled
def enter_pool(world: World, r: int) -> None:
    """Put a replica at the end of its pool's list."""
    this = replica_at(world, r)
    tree, stamp = 2 * this.pool, world.next_stamp
    world.next_stamp += 1
    _set(world, tree + PENDING, r, float(this.pending_tokens), stamp, r)
    _set(world, tree + SCHEDULED, r, float(this.scheduled_tokens), stamp, r)


@compiled
def leave_pool(world: World, r: int) -> None:
    """Take a replica out of its pool's list."""
    tree = 2 * replica_at(world, r).pool
    _set(world, tree + PENDING, r, INFINITE, NEVER, NONE)
    _set(world, tree + SCHEDULED, r, INFINITE, NEVER, NONE)


@compiled
def set_end(world: World, r: int, end_s: float) -> None:
    """Set the time at which a replica's work ends (infinite: none)."""
    _change(world, ENDS, r, end_s)
