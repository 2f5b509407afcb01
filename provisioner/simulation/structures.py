"""Compiled data structures of the event loop: growing lists in one arena, a heap with changing keys.

Both are exact and deterministic: ties go to the lower request.
"""

from provisioner.simulation import pointers
from provisioner.simulation.pointers import arena_at, compiled, heap_at, list_at, request_at
from provisioner.simulation.records import BLOCK, World

INFINITE = float("inf")


# --- lists: the part of the arena from ``start`` with ``room`` places, of which ``length`` are used from ``head`` ---


@compiled
def _make_room(world: World, k: int) -> None:
    """Make room on both sides of a list's values: in place if it is half empty, else twice as much elsewhere."""
    this = list_at(world, k)
    source, room = this.start + this.head, this.room
    if 2 * this.length > room or room < 8:
        room = max(2 * room, 8)
        this.start = world.arena_free
        world.arena_free += room
        world.largest_room = max(world.largest_room, room)
    this.room, this.head = room, (room - this.length) // 2
    target = this.start + this.head
    if target < source:
        for i in range(this.length):
            arena_at(world, target + i).value = arena_at(world, source + i).value
    else:
        for i in range(this.length - 1, -1, -1):
            arena_at(world, target + i).value = arena_at(world, source + i).value


@compiled
def append(world: World, k: int, value: int) -> None:
    """Add a value at the end of a list."""
    this = list_at(world, k)
    if this.head + this.length == this.room:
        _make_room(world, k)
    arena_at(world, this.start + this.head + this.length).value = value
    this.length += 1


@compiled
def remove_at(world: World, k: int, position: int) -> None:
    """Remove the value at a position of a list, moving the shorter side."""
    this = list_at(world, k)
    at = this.start + this.head
    this.length -= 1
    if 2 * position <= this.length:
        for i in range(position, 0, -1):
            arena_at(world, at + i).value = arena_at(world, at + i - 1).value
        this.head = this.head + 1 if this.length > 0 else 0
    else:
        for i in range(position, this.length):
            arena_at(world, at + i).value = arena_at(world, at + i + 1).value


@compiled
def remove(world: World, k: int, value: int) -> None:
    """Remove a value from a list that holds it once; the search runs from both ends."""
    this = list_at(world, k)
    at = this.start + this.head
    for i in range(this.length):
        position = i
        if arena_at(world, at + position).value != value:
            position = this.length - 1 - i
        if arena_at(world, at + position).value == value:
            remove_at(world, k, position)
            return


@compiled
def _place(world: World, k: int, value: int) -> int:
    """First position of an ascending list whose value is not below the given one."""
    this = list_at(world, k)
    at = this.start + this.head
    low, high = 0, this.length
    while low < high:
        middle = (low + high) // 2
        if arena_at(world, at + middle).value < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def insert_sorted(world: World, k: int, value: int) -> None:
    """Insert a value into an ascending list that does not hold it, moving the shorter side."""
    this = list_at(world, k)
    if this.length == 0 or arena_at(world, this.start + this.head + this.length - 1).value < value:
        append(world, k, value)
        return
    position = _place(world, k, value)
    if 2 * position >= this.length:
        append(world, k, value)
        at = this.start + this.head
        for i in range(this.length - 1, position, -1):
            arena_at(world, at + i).value = arena_at(world, at + i - 1).value
    else:
        if this.head == 0:
            _make_room(world, k)
        this.head -= 1
        this.length += 1
        at = this.start + this.head
        for i in range(position):
            arena_at(world, at + i).value = arena_at(world, at + i + 1).value
    arena_at(world, at + position).value = value


@compiled
def remove_sorted(world: World, k: int, value: int) -> None:
    """Remove a value from an ascending list that holds it."""
    remove_at(world, k, _place(world, k, value))


# --- lists of waiting tasks: in blocks, so that a change in the middle of a long one moves few tasks ---
# At ``start`` is a table of ``head`` rows: the position of the list at which a block begins, and the block's place in
# the arena. A block is its number of tasks, then the tasks; a free one begins with the place of the next free one.


@compiled
def _new_block(world: World) -> int:
    """Place of an empty block."""
    block = world.free_block
    if block >= 0:
        world.free_block = arena_at(world, block).value
    else:
        block = world.arena_free
        world.arena_free += BLOCK + 1
    arena_at(world, block).value = 0
    return block


@compiled
def _row(world: World, k: int, position: int) -> int:
    """Place of the last row of a list's table whose first position is not behind the given one."""
    this = list_at(world, k)
    low, high = 0, this.head
    while high - low > 1:
        middle = (low + high) // 2
        if arena_at(world, this.start + 2 * middle).value <= position:
            low = middle
        else:
            high = middle
    return this.start + 2 * low


@compiled
def task_at(world: World, k: int, position: int) -> int:
    """Task at a position of a list of waiting tasks."""
    row = _row(world, k, position)
    return arena_at(world, arena_at(world, row + 1).value + 1 + position - arena_at(world, row).value).value


@compiled
def _halve(world: World, k: int, row: int) -> None:
    """Move the second half of a row's full block to a new block behind it."""
    this = list_at(world, k)
    for i in range(this.start + 2 * this.head + 1, row + 3, -1):
        arena_at(world, i).value = arena_at(world, i - 2).value
    this.head += 1
    block, new = arena_at(world, row + 1).value, _new_block(world)
    arena_at(world, row + 2).value, arena_at(world, row + 3).value = arena_at(world, row).value + BLOCK // 2, new
    arena_at(world, block).value = arena_at(world, new).value = BLOCK // 2
    for i in range(1, BLOCK // 2 + 1):
        task = arena_at(world, block + BLOCK // 2 + i).value
        pointers.waiting_at(world, task).block = new
        arena_at(world, new + i).value = task


@compiled
def insert_task(world: World, k: int, position: int, task: int) -> None:
    """Insert a task before a position of a list of waiting tasks."""
    this = list_at(world, k)
    if 2 * this.head + 2 > this.room:  # no further row
        source, this.start = this.start, world.arena_free
        this.room = 2 * this.room + 2
        world.arena_free += this.room
        world.largest_room = max(world.largest_room, this.room)
        for i in range(2 * this.head):
            arena_at(world, this.start + i).value = arena_at(world, source + i).value
    if this.head == 0:
        this.head = 1
        arena_at(world, this.start).value, arena_at(world, this.start + 1).value = 0, _new_block(world)
    row = _row(world, k, position)
    if arena_at(world, arena_at(world, row + 1).value).value == BLOCK:
        _halve(world, k, row)
        row = _row(world, k, position)
    for i in range(row + 2, this.start + 2 * this.head, 2):
        arena_at(world, i).value += 1
    this.length += 1
    block = arena_at(world, row + 1).value
    pointers.waiting_at(world, task).block = block
    size = arena_at(world, block)
    size.value += 1
    place = block + 1 + position - arena_at(world, row).value
    for i in range(block + size.value, place, -1):
        arena_at(world, i).value = arena_at(world, i - 1).value
    arena_at(world, place).value = task


@compiled
def remove_task(world: World, k: int, task: int) -> None:
    """Remove a task from the list of waiting tasks that holds it."""
    this = list_at(world, k)
    this.length -= 1
    block = pointers.waiting_at(world, task).block
    row = this.start + 2 * this.head - 2
    while arena_at(world, row + 1).value != block:
        arena_at(world, row).value -= 1
        row -= 2
    size = arena_at(world, block)
    at = block + size.value
    while arena_at(world, at).value != task:
        at -= 1
    for i in range(at, block + size.value):
        arena_at(world, i).value = arena_at(world, i + 1).value
    size.value -= 1
    if size.value == 0:
        this.head -= 1
        for i in range(row, this.start + 2 * this.head):
            arena_at(world, i).value = arena_at(world, i + 2).value
        size.value, world.free_block = world.free_block, block


@compiled
def clear_tasks(world: World, k: int) -> None:
    """Empty a list of waiting tasks."""
    this = list_at(world, k)
    for row in range(this.head):
        block = arena_at(world, this.start + 2 * row + 1).value
        arena_at(world, block).value, world.free_block = world.free_block, block
    this.head = this.length = 0


# --- the heap of transfers' next events, by time, then by request ---


@compiled
def _before(world: World, a: int, b: int) -> bool:
    first, second = request_at(world, a), request_at(world, b)
    return bool(first.event_s < second.event_s or (first.event_s == second.event_s and a < b))


@compiled
def _sift(world: World, i: int) -> None:
    """Move the request at place ``i`` of the heap to its proper place."""
    size = world.heap_size
    request = heap_at(world, i).value
    while i > 0 and _before(world, request, heap_at(world, (i - 1) // 2).value):
        parent = heap_at(world, (i - 1) // 2).value
        heap_at(world, i).value = parent
        request_at(world, parent).heap_at = i
        i = (i - 1) // 2
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _before(world, heap_at(world, child + 1).value, heap_at(world, child).value):
            child += 1
        if not _before(world, heap_at(world, child).value, request):
            break
        lower = heap_at(world, child).value
        heap_at(world, i).value = lower
        request_at(world, lower).heap_at = i
        i = child
    heap_at(world, i).value = request
    request_at(world, request).heap_at = i


@compiled
def push(world: World, request: int, time_s: float) -> None:
    """Add a request's event, or move it in time."""
    this = request_at(world, request)
    this.event_s = time_s
    if this.heap_at < 0:
        this.heap_at = world.heap_size
        heap_at(world, world.heap_size).value = request
        world.heap_size += 1
    _sift(world, this.heap_at)


@compiled
def withdraw(world: World, request: int) -> None:
    """Take a request's event out of the heap."""
    this = request_at(world, request)
    at = this.heap_at
    this.heap_at = -1
    world.heap_size -= 1
    if at < world.heap_size:
        last = heap_at(world, world.heap_size).value
        heap_at(world, at).value = last
        request_at(world, last).heap_at = at
        _sift(world, at)
