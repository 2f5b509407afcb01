"""Machine-level scheduling (compiled): choice, duration and wake-up of a replica's next tasks.

The rules of the Splitwise paper's machine-level scheduler, as in its published simulator: prompts first within a
token limit, tokens preempted at most ``max_preemptions`` times, runs of token iterations advanced in one step.
A task is written as its request for the prompt phase and as ``-1 - request`` for the token phase.
"""

from provisioner.simulation import pointers, records, structures
from provisioner.simulation.minima import enter_pool, leave_pool, set_end
from provisioner.simulation.pointers import arena_at, compiled, list_at, replica_at, request_at, type_at
from provisioner.simulation.records import BATCH, FRESH, LISTS, PREEMPTED, PRESENT, PROMPTS_WAITING, WAITING, World
from provisioner.simulation.structures import append, insert_sorted, remove_sorted, task_at


@compiled
def overlap_s(world: World, start_s: float, end_s: float) -> float:
    """Time from ``start_s`` to ``end_s`` that lies in the measured window."""
    return max(min(end_s, world.until_s) - max(start_s, world.from_s), 0.0)


@compiled
def account(world: World, r: int, now_s: float) -> None:
    """Update a replica's integrals of KV memory and queue up to now; call before either changes."""
    this = replica_at(world, r)
    if now_s > this.measured_s:
        passed_s = overlap_s(world, this.measured_s, now_s)
        this.kv_token_s += passed_s * this.used_tokens
        this.queue_s += passed_s * list_at(world, LISTS * r + PROMPTS_WAITING).length
        this.measured_s = now_s


@compiled
def take_memory(world: World, r: int, tokens: int, now_s: float) -> None:
    """Take KV memory of a replica, or give it back where negative."""
    account(world, r, now_s)
    this = replica_at(world, r)
    this.used_tokens += tokens
    this.most_used_tokens = max(this.most_used_tokens, this.used_tokens)


@compiled
def batch_tokens(world: World, task: int) -> int:
    """Tokens that a task counts in a batch: a prompt's own, a sequence's one."""
    return request_at(world, task).prompt_tokens if task >= 0 else 1


@compiled
def memory_to_start(world: World, r: int, task: int) -> int:
    """KV tokens that a task takes when it starts on this replica."""
    if task >= 0:
        this = request_at(world, task)
        whole = world.reserve_whole and this.token_at == r
        return this.prompt_tokens + (this.output_tokens if whole else 1)
    this = request_at(world, -1 - task)
    if world.reserve_whole or this.remaining < this.output_tokens - 1:
        return 0  # it is taken already: with the prompt, or before the task was preempted
    return this.output_tokens - 1


@compiled
def _times_passed_over(world: World, r: int, task: int) -> int:
    """Times a waiting task was passed over: choices of its replica since it could first be chosen."""
    base = pointers.waiting_at(world, task).base
    return 0 if base == records.NEVER else replica_at(world, r).choices - base


@compiled
def join(world: World, r: int, task: int) -> None:
    """Insert a task into the waiting list by (times passed over, arrival), behind equals, by binary search."""
    k = LISTS * r + WAITING
    waiting = list_at(world, k)
    request = task if task >= 0 else -1 - task
    passed_over = _times_passed_over(world, r, task)
    low, high = 0, waiting.length
    while low < high:
        middle = (low + high) // 2
        other = task_at(world, k, middle)
        theirs = _times_passed_over(world, r, other)
        first = other if other >= 0 else -1 - other
        if passed_over < theirs or (passed_over == theirs and request < first):
            high = middle
        else:
            low = middle + 1
    structures.insert_task(world, k, low, task)
    this = replica_at(world, r)
    this.most_waiting = max(this.most_waiting, list_at(world, LISTS * r + PROMPTS_WAITING).length)


@compiled
def _take(world: World, r: int, task: int, now_s: float) -> None:
    """Start a waiting task: its memory, its state, its place in the batch instead of the waiting list."""
    replica = replica_at(world, r)
    structures.remove_task(world, LISTS * r + WAITING, task)
    take_memory(world, r, memory_to_start(world, r, task), now_s)
    if task >= 0:
        this = request_at(world, task)
        this.state = records.PROMPT_RUNNING
        remove_sorted(world, LISTS * r + PROMPTS_WAITING, task)
        replica.prompt_tokens += this.prompt_tokens
        replica.batch_tokens += this.prompt_tokens
        replica.prompts_running += 1
    else:
        this = request_at(world, -1 - task)
        this.passed_over = _times_passed_over(world, r, task)
        this.state = records.TOKEN_RUNNING
        if this.remaining < this.output_tokens - 1:
            structures.remove(world, LISTS * r + PREEMPTED, -1 - task)
        else:
            remove_sorted(world, LISTS * r + FRESH, -1 - task)
        this.ends_at = replica.iterations + this.remaining
        replica.first_end = min(replica.first_end, this.ends_at)
        replica.context_tokens += this.prompt_tokens + this.output_tokens - this.remaining
        replica.batch_tokens += 1
    append(world, LISTS * r + BATCH, task)


@compiled
def _fits_batch(world: World, r: int, size: int, task: int) -> bool:
    """Whether a task fits beside ``size`` others; the first of a batch always fits its tokens."""
    replica = replica_at(world, r)
    tokens = replica.batch_tokens + batch_tokens(world, task)
    return bool(size < world.batch_requests and (size == 0 or tokens <= replica.budget_tokens))


@compiled
def _fits_memory(world: World, r: int, task: int) -> bool:
    this = replica_at(world, r)
    return bool(this.used_tokens + memory_to_start(world, r, task) <= this.capacity_tokens)


@compiled
def _take_in_order(world: World, r: int, kind: int, size: int, now_s: float) -> int:
    """Start tasks of one of a replica's lists beside ``size`` others until one does not fit; return the new number."""
    tasks = list_at(world, LISTS * r + kind)
    while tasks.length > 0:
        task = arena_at(world, tasks.start + tasks.head).value
        if kind != PROMPTS_WAITING:
            task = -1 - task
        if not _fits_batch(world, r, size, task) or not _fits_memory(world, r, task):
            break
        _take(world, r, task, now_s)
        size += 1
    return size


@compiled
def start(world: World, r: int, now_s: float) -> None:
    """Choose the next batch of a replica and run it, or leave the replica idle.

    ``BATCH`` holds the token tasks that ran before and are not complete. New tasks go behind them, so the old ones
    that must make room are the last to be decided and the first to be cut.
    """
    replica = replica_at(world, r)
    batch, waiting = list_at(world, LISTS * r + BATCH), list_at(world, LISTS * r + WAITING)
    old = batch.length
    replica.batch_tokens = replica.prompt_tokens = replica.prompts_running = 0
    size = 0
    if waiting.length > 0:
        # (1) Tasks passed over too often, in the order of the waiting list.
        i = 0
        while i < waiting.length:
            task = task_at(world, LISTS * r + WAITING, i)
            if _times_passed_over(world, r, task) < world.max_preemptions:
                break
            if _fits_memory(world, r, task):
                if not _fits_batch(world, r, size, task):
                    break
                _take(world, r, task, now_s)
                size += 1
            elif world.reserve_whole:
                break  # sequences hold theirs; tasks that need memory need it in order
            else:
                i += 1
        # (2) Prompts in order of arrival.
        size = _take_in_order(world, r, PROMPTS_WAITING, size, now_s)
        # (3) Preempted token tasks, in order of preemption.
        size = _take_in_order(world, r, PREEMPTED, size, now_s)
    # (4) Tasks of the old batch in their order; each counts one token, so the last ones are cut.
    kept = min(old, world.batch_requests - size, max(replica.budget_tokens - replica.batch_tokens, 0))
    replica.batch_tokens += kept
    size += kept
    if waiting.length > replica.behind and world.reserve_whole:
        # (5) Tasks that have not run yet and hold their memory; prompts that did not fit in (2) do not fit here.
        size = _take_in_order(world, r, FRESH, size, now_s)
    elif waiting.length > replica.behind:
        # (5) All requests by arrival; the first not chosen that does not fit ends it.
        present = list_at(world, LISTS * r + PRESENT)
        for i in range(present.length):
            request = arena_at(world, present.start + present.head + i).value
            state = request_at(world, request).state
            if state == records.PROMPT_WAITING or state == records.TOKEN_WAITING:
                task = request if state == records.PROMPT_WAITING else -1 - request
                if not _fits_batch(world, r, size, task) or not _fits_memory(world, r, task):
                    break
                _take(world, r, task, now_s)
                size += 1
    replica.choices += 1
    if kept < old:
        _preempt(world, r, kept, old)
        world.preemptions += old - kept
    if replica.pool != replica.home and list_at(world, LISTS * r + PRESENT).length == 0:
        change_pool(world, r, now_s)
    iterations = replica.first_end - replica.iterations
    begin(world, r, size - replica.prompts_running, replica.context_tokens, iterations, 0.0, now_s)


@compiled
def _preempt(world: World, r: int, kept: int, old: int) -> None:
    """Put the tasks ``kept`` to ``old`` of the batch back into the waiting list; the choice is already counted."""
    replica = replica_at(world, r)
    batch = list_at(world, LISTS * r + BATCH)
    for i in range(kept, old):
        task = arena_at(world, batch.start + batch.head + i).value
        request = -1 - task
        this = request_at(world, request)
        this.remaining = this.ends_at - replica.iterations
        this.state = records.TOKEN_WAITING
        replica.context_tokens -= this.prompt_tokens + this.output_tokens - this.remaining
        this.interrupted += 1
        pointers.waiting_at(world, task).base = replica.choices - (this.passed_over + 1)
        join(world, r, task)
        append(world, LISTS * r + PREEMPTED, request)
    at = batch.start + batch.head
    for i in range(old, batch.length):
        arena_at(world, at + kept + i - old).value = arena_at(world, at + i).value
    batch.length -= old - kept
    replica.first_end = records.NEVER
    for i in range(batch.length):
        task = arena_at(world, at + i).value
        if task < 0:
            replica.first_end = min(replica.first_end, request_at(world, -1 - task).ends_at)


@compiled
def change_pool(world: World, r: int, now_s: float) -> None:
    """Move a replica from its own pool to the end of the mixed pool's list, or back."""
    replica = replica_at(world, r)
    leave_pool(world, r)
    if replica.pool == replica.home:
        replica.pool = records.MIXED_POOL
        replica.mixed_since_s = now_s
        world.moves += 1
    else:
        replica.pool = replica.home
        replica.mixed_pool_s += overlap_s(world, replica.mixed_since_s, now_s)
    enter_pool(world, r)


@compiled
def run_s(world: World, r: int, iterations: int) -> float:
    """Time of the first iterations of a replica's token run; the context added by each lengthens the next."""
    this = replica_at(world, r)
    return iterations * this.base_s + this.growth_s * (iterations * (iterations - 1) // 2)


@compiled
def begin(
    world: World, r: int, sequences: int, context_tokens: int, iterations: int, further_s: float, now_s: float
) -> None:
    """Start a replica's work, if any: an iteration of its prompts and the sequences, or a run of the sequences alone.

    ``iterations`` are those of a run, ``further_s`` is the extra time of an iteration with prompts.
    """
    replica = replica_at(world, r)
    kind = type_at(world, replica.type)
    if sequences == 0 and replica.prompts_running == 0:
        replica.doing = records.IDLE
        set_end(world, r, structures.INFINITE)
        return
    replica.start_s = now_s
    alone_s = 0.0
    if sequences > 0:
        alone_s = pointers.decode_s_at(world, world.decode_columns * replica.type + sequences).value
        alone_s += kind.decode_s_per_token * context_tokens
    if replica.prompts_running > 0:
        duration_s = pointers.prompt_s(world, replica.type, replica.prompt_tokens + sequences)
        if sequences > 0:
            duration_s = kind.mixed_factor * duration_s
            duration_s += kind.mixed_s_per_sequence * sequences + kind.mixed_s_per_token * context_tokens
            if world.decode_floor:
                duration_s = max(duration_s, alone_s)
        replica.doing = records.ITERATION
        replica.run_iterations = 1
        replica.base_s = duration_s + further_s
        replica.growth_s = 0.0
    else:
        replica.doing = records.TOKEN_RUN
        replica.run_iterations = iterations
        replica.base_s = alone_s
        replica.growth_s = kind.decode_s_per_token * sequences
    set_end(world, r, now_s + run_s(world, r, replica.run_iterations))


@compiled
def complete_iterations(world: World, r: int, now_s: float) -> int:
    """Iterations of a token run that are complete."""
    this = replica_at(world, r)
    passed_s = now_s - this.start_s
    if this.growth_s == 0.0:
        complete = int(passed_s / this.base_s)
    else:
        half = this.base_s - this.growth_s / 2.0
        complete = int(((half * half + 2.0 * this.growth_s * passed_s) ** 0.5 - half) / this.growth_s)
        while complete > 0 and run_s(world, r, complete) > passed_s:
            complete -= 1
        while run_s(world, r, complete + 1) <= passed_s:
            complete += 1
    return complete


@compiled
def end_run(world: World, r: int, now_s: float) -> None:
    """End a token run at the boundary of the iteration that is in progress."""
    this = replica_at(world, r)
    complete = complete_iterations(world, r, now_s)
    if complete + 1 < this.run_iterations:
        this.run_iterations = complete + 1
        set_end(world, r, this.start_s + run_s(world, r, complete + 1))


@compiled
def make_ready(world: World, r: int) -> None:
    """Let a replica choose its next batch before the next event: the event loop starts it."""
    this = replica_at(world, r)
    this.doing = records.READY
    this.next_ready = world.ready
    world.ready = r


@compiled
def _arrive(world: World, r: int, task: int, now_s: float) -> None:
    """Add a task to a replica's waiting list: it starts an idle replica, or ends a run of token iterations early."""
    join(world, r, task)
    if replica_at(world, r).doing != records.IDLE:
        _interrupt(world, r, task, now_s)
    elif _fits_memory(world, r, task):
        make_ready(world, r)


@compiled
def _interrupt(world: World, r: int, task: int, now_s: float) -> None:
    """End a token run for a task, if it can join or is a prompt that may go first."""
    this = replica_at(world, r)
    if this.doing == records.TOKEN_RUN:
        tokens = batch_tokens(world, task)
        size = list_at(world, LISTS * r + BATCH).length
        room = size < world.batch_requests and this.batch_tokens + tokens <= this.budget_tokens
        if room or (task >= 0 and tokens <= this.budget_tokens):
            end_run(world, r, now_s)


@compiled
def wake(world: World, r: int, now_s: float) -> None:
    """Wake a replica with freed memory: waiting tasks start it if it idles, or end its token run early."""
    if world.strict:
        waiting = list_at(world, LISTS * r + PROMPTS_WAITING).length + list_at(world, LISTS * r + PREEMPTED).length
        if waiting > 0 and replica_at(world, r).doing == records.IDLE:
            make_ready(world, r)
        elif waiting > 0 and replica_at(world, r).doing == records.TOKEN_RUN:
            end_run(world, r, now_s)
        return
    if list_at(world, LISTS * r + WAITING).length > 0:
        if replica_at(world, r).doing != records.IDLE:
            _interrupt(world, r, -1, now_s)  # for any sequence
        elif _fits_memory(world, r, task_at(world, LISTS * r + WAITING, 0)):
            make_ready(world, r)


@compiled
def arrive_prompt(world: World, r: int, request: int, now_s: float) -> None:
    """Add an arriving prompt to a replica, with its token task behind it if both run on this replica."""
    this, replica = request_at(world, request), replica_at(world, r)
    account(world, r, now_s)
    this.state = records.PROMPT_WAITING
    pointers.waiting_at(world, request).base = replica.choices
    pointers.waiting_at(world, -1 - request).base = records.NEVER
    this.remaining = this.output_tokens - 1
    insert_sorted(world, LISTS * r + PROMPTS_WAITING, request)
    insert_sorted(world, LISTS * r + PRESENT, request)
    tasks = 2 if this.token_at == r and this.output_tokens > 1 else 1
    replica.behind += tasks - 1
    for i in range(tasks):  # one call compiles faster than two
        _arrive(world, r, request if i == 0 else -1 - request, now_s)
    if this.token_at == r and tasks == 1:
        _interrupt(world, r, -1 - request, now_s)  # as its missing token task would do


@compiled
def arrive_tokens(world: World, r: int, request: int, now_s: float) -> None:
    """Add a request's token phase to a replica, with its KV cache."""
    this = request_at(world, request)
    this.state = records.TOKEN_WAITING
    pointers.waiting_at(world, -1 - request).base = replica_at(world, r).choices
    insert_sorted(world, LISTS * r + PRESENT, request)
    insert_sorted(world, LISTS * r + FRESH, request)
    _arrive(world, r, -1 - request, now_s)


@compiled
def first_and_last(world: World, r: int, iterations: int) -> tuple[float, float]:
    """Time of the first token of a replica's run, and its last and longest gap, 0 in a run of one iteration."""
    this = replica_at(world, r)
    last_gap_s = this.base_s + this.growth_s * (iterations - 1) if iterations > 1 else 0.0
    return this.start_s + this.base_s, last_gap_s


@compiled
def note_tokens(world: World, request: int, first_s: float, last_gap_s: float, now_s: float) -> None:
    """Note a sequence's tokens of a run: its largest gap, and the time of its latest token."""
    this = request_at(world, request)
    this.largest_gap_s = max(this.largest_gap_s, first_s - this.token_s, last_gap_s)
    this.token_s = now_s


@compiled
def note_run(world: World, r: int, now_s: float) -> None:
    """Add the work that ends to the busy times, the batch sizes and the timeline."""
    this = replica_at(world, r)
    size = this.prompts_running + this.batch_tokens - this.prompt_tokens
    passed_s = overlap_s(world, this.start_s, now_s)
    if this.prompts_running == 0:
        kind = records.TOKENS
        this.tokens_busy_s += passed_s
    elif this.prompts_running == size:
        kind = records.PROMPTS
        this.prompts_busy_s += passed_s
    else:
        kind = records.MIXED
        this.mixed_busy_s += passed_s
    pointers.batch_time_at(world, world.decode_columns * this.slot + size).value += passed_s
    if world.segments_count > 0:
        segment = pointers.segment_at(world, world.segments_used)
        segment.start_s, segment.end_s = this.start_s, now_s
        segment.replica, segment.kind, segment.batch = r, kind, size
        segment.prompt_tokens = this.prompt_tokens
        world.segments_used += 1
