"""A second, slow implementation of the published simulator: a test oracle only, written from the page of its rules.

Lists are walked, nothing is counted ahead, and every choice looks at all tasks. Memory is in tokens of KV cache.
Rules that the page leaves open follow the order of its sentences; they are marked "open".
"""

from __future__ import annotations

from bisect import insort_right
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil

from provisioner.perf.assumptions import ReplicaPerf

BATCH_REQUESTS = 512
BATCH_TOKENS = 2048
MAX_PREEMPTIONS = 4
MAX_PENDING_TOKENS = 8192
RETRY_S = 1.0
MIXED_FACTOR = 1.1


@dataclass(eq=False)
class Task:
    """One phase of a request: all of its prompt, or its ``left`` remaining token iterations."""

    request: Request
    is_prompt: bool
    left: int
    preemptions: int = 0
    started: bool = False
    done: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that the task counts in an iteration."""
        return self.request.prompt_tokens if self.is_prompt else 1

    @property
    def memory_tokens(self) -> int:
        """Memory that the task still has to take to run: 0 once it has started."""
        if self.started:
            return 0
        return self.request.prompt_tokens + 1 if self.is_prompt else self.request.output_tokens - 1


@dataclass(eq=False)
class Request:
    """A request with its two tasks, their machines, and its results."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    prompt_at: Machine = field(init=False)
    tokens_at: Machine = field(init=False)
    first_s: float = float("nan")
    last_s: float = float("nan")
    retries: int = 0
    prompt: Task = field(init=False)
    decode: Task = field(init=False)

    def __post_init__(self) -> None:
        self.prompt = Task(self, True, 1)
        self.decode = Task(self, False, self.output_tokens - 1)

    @property
    def total_tokens(self) -> int:
        """Prompt and output tokens together."""
        return self.prompt_tokens + self.output_tokens

    @property
    def current(self) -> Task:
        """The prompt task until it has run, then the token task."""
        return self.decode if self.prompt.done else self.prompt


@dataclass(eq=False)
class Machine:
    """A machine: its waiting list, its batch, and the sums that the cluster looks at."""

    perf: ReplicaPerf
    pool: str  # its own pool
    waiting: list[Task] = field(default_factory=list)
    preempted: list[Task] = field(default_factory=list)  # waiting tasks that have run, in order of preemption
    batch: list[Task] = field(default_factory=list)
    used_tokens: int = 0
    pending_tokens: int = 0
    scheduled_tokens: int = 0
    run: int = 0  # number of its current run of iterations, 0 when idle
    began_s: float = 0.0
    iteration_s: float = 0.0
    iterations: int = 0
    moves: int = 0
    preemptions: int = 0
    most_used_tokens: int = 0
    times: dict[tuple[str, int], float] = field(default_factory=dict)

    def seconds(self, curve: str, at: int) -> float:
        """Value of a curve, cached."""
        if (curve, at) not in self.times:
            value = self.perf.prompt_s(float(at)) if curve == "prompt" else self.perf.decode_s(float(at), 0.0)
            self.times[curve, at] = float(value)
        return self.times[curve, at]

    @property
    def only_tokens(self) -> bool:
        """Whether the machine runs token tasks only."""
        return self.run > 0 and not any(task.is_prompt for task in self.batch)

    @property
    def batch_tokens(self) -> int:
        """Tokens of the batch's next iteration."""
        return sum(task.tokens for task in self.batch)

    @property
    def requests(self) -> list[Request]:
        """Requests present, waiting or running, by arrival."""
        found = {id(task.request): task.request for task in self.waiting + self.batch}
        return sorted(found.values(), key=lambda request: request.arrival_s)

    def has_room(self, tokens: int) -> bool:
        """Whether ``tokens`` more memory is free."""
        return self.used_tokens + tokens <= self.perf.kv_capacity_tokens

    def take(self, tokens: int) -> None:
        """Take memory."""
        self.used_tokens += tokens
        self.most_used_tokens = max(self.most_used_tokens, self.used_tokens)

    def queue(self, task: Task) -> None:
        """Insert by binary search on (preemptions, arrival), with the counts of this moment."""
        insort_right(self.waiting, task, key=lambda other: (other.preemptions, other.request.arrival_s))

    def choose(self) -> list[Task]:
        """The tasks of the next batch in the order chosen. ``batch`` holds the unfinished tasks of the old one."""
        chosen: list[Task] = []

        def within_limits(task: Task) -> bool:
            tokens = sum(other.tokens for other in chosen) + task.tokens
            return not chosen or (len(chosen) < BATCH_REQUESTS and tokens <= BATCH_TOKENS)

        def in_memory(task: Task) -> bool:
            return self.has_room(sum(other.memory_tokens for other in chosen) + task.memory_tokens)

        for task in self.waiting:  # (1)
            if task.preemptions < MAX_PREEMPTIONS:
                break
            if not in_memory(task):
                continue
            if not within_limits(task):
                break
            chosen.append(task)
        prompts = [task for task in self.waiting if task.is_prompt and task not in chosen]
        for task in sorted(prompts, key=lambda task: task.request.arrival_s):  # (2)
            if not (within_limits(task) and in_memory(task)):
                break
            chosen.append(task)
        for task in [task for task in self.preempted if task not in chosen] + self.batch:  # (3), (4)
            if within_limits(task):
                chosen.append(task)
        for request in self.requests:  # (5)
            task = request.current
            if task in chosen:
                continue
            if not (within_limits(task) and in_memory(task)):
                break
            chosen.append(task)
        return chosen

    def change_batch(self) -> None:
        """Choose the tasks, put back the others, start the new ones, and count preemptions."""
        chosen = self.choose()
        present = self.requests
        kept = [task for task in self.batch if task in chosen]
        dropped = [task for task in self.batch if task not in chosen]
        new = [task for task in chosen if task not in kept]
        for task in new:
            self.waiting.remove(task)
            if task in self.preempted:
                self.preempted.remove(task)
            self.take(task.memory_tokens)
            task.started = True
        self.batch = kept + new
        for request in present:
            if request.current not in chosen:
                request.current.preemptions += 1
                self.preemptions += 1
        for task in dropped:  # open: put back with the count that this choice has added to
            self.queue(task)
            self.preempted.append(task)


class Published:
    """A cluster under the published rules. ``run()`` gives every request its times."""

    def __init__(self, requests: list[Request], machines: list[Machine], transfer_s: list[float]) -> None:
        self.requests, self.machines = requests, machines
        self.pools: dict[str, list[Machine]] = {"prompt": [], "token": [], "mixed": []}
        for machine in machines:
            self.pools[machine.pool].append(machine)
        self.baseline = not (self.pools["prompt"] or self.pools["token"])
        self.transfer_s = {id(r): t for r, t in zip(requests, transfer_s, strict=True)}
        self.events: list[tuple[float, int, str, object, int]] = []
        self.numbers = count(1)
        self.now_s = 0.0

    def later(self, at_s: float, what: str, whom: object, number: int = 0) -> None:
        """Put an event on the list."""
        heappush(self.events, (at_s, next(self.numbers), what, whom, number))

    def run(self) -> Published:
        """Run all requests to their ends."""
        for request in self.requests:
            self.later(request.arrival_s, "arrival", request)
        tried = 0  # transfers in a row that found no room
        while self.events:
            self.now_s, _, what, whom, number = heappop(self.events)
            tried = tried + 1 if what == "transfer" else 0
            if tried > 3 * len(self.events) + 3 and all(event[2] == "transfer" for event in self.events):
                break  # for ever
            if isinstance(whom, Machine):
                if whom.run == number:  # otherwise the run was cut short
                    self.iterations_end(whom)
            elif isinstance(whom, Request):
                {"arrival": self.arrive, "transfer": self.transfer_starts, "landed": self.transfer_ends}[what](whom)
        return self

    # The cluster

    def move(self, machine: Machine, to: str) -> None:
        """Move a machine to the end of another pool's list."""
        for pool in self.pools.values():
            if machine in pool:
                pool.remove(machine)
        self.pools[to].append(machine)
        machine.moves += 1

    def choose_machines(self, request: Request) -> tuple[Machine, Machine]:
        """Machines of the prompt and of the tokens."""
        pending, scheduled = (lambda m: m.pending_tokens), (lambda m: m.scheduled_tokens)
        if self.baseline:
            machine = min(self.pools["mixed"], key=pending)
            return machine, machine
        prompt_at = tokens_at = None
        for pool in (self.pools["prompt"], self.pools["mixed"]):
            if pool and prompt_at is None:
                machine = min(pool, key=pending)
                if not (machine.waiting and machine.pending_tokens + request.prompt_tokens > MAX_PENDING_TOKENS):
                    prompt_at = machine
        for pool in (self.pools["token"], self.pools["mixed"]):
            if pool and tokens_at is None:
                machine = min(pool, key=scheduled)
                if not machine.scheduled_tokens + request.total_tokens >= machine.perf.kv_capacity_tokens:
                    tokens_at = machine
        if prompt_at is None and self.pools["token"]:
            prompt_at = min(self.pools["token"], key=pending)
            self.move(prompt_at, "mixed")
        if tokens_at is None and self.pools["prompt"]:
            tokens_at = min(self.pools["prompt"], key=scheduled)
            self.move(tokens_at, "mixed")
        if prompt_at is None or tokens_at is None:
            every = self.pools["prompt"] + self.pools["mixed"] + self.pools["token"]
            prompt_at = tokens_at = min(every, key=pending)
        return prompt_at, tokens_at

    def arrive(self, request: Request) -> None:
        """Assign a request and queue its tasks for its first machine."""
        first, second = self.choose_machines(request)
        request.prompt_at, request.tokens_at = first, second
        first.pending_tokens += request.prompt_tokens
        second.pending_tokens += 1
        second.scheduled_tokens += request.total_tokens
        if first is not second:
            first.scheduled_tokens += request.prompt_tokens + 1
        self.task_arrives(first, request.prompt)
        if first is second and request.output_tokens > 1:
            self.task_arrives(first, request.decode)

    # The machine

    def task_arrives(self, machine: Machine, task: Task) -> None:
        """Join the waiting list; start an idle machine, or cut a run of token iterations short."""
        machine.queue(task)
        if not machine.run:
            if machine.has_room(task.memory_tokens):
                self.start(machine)
        elif machine.only_tokens:
            room = len(machine.batch) < BATCH_REQUESTS and machine.batch_tokens + task.tokens <= BATCH_TOKENS
            if room or (task.is_prompt and task.tokens <= BATCH_TOKENS):
                self.cut_short(machine)

    def start(self, machine: Machine) -> None:
        """Choose a batch and run it: prompts for one iteration, tokens alone until the first completes."""
        machine.change_batch()
        machine.run = 0
        if not machine.batch:
            return
        prompt_tokens = sum(task.tokens for task in machine.batch if task.is_prompt)
        sequences = sum(not task.is_prompt for task in machine.batch)
        machine.iterations = 1
        if not prompt_tokens:
            machine.iteration_s = machine.seconds("token", sequences)
            machine.iterations = min(task.left for task in machine.batch)
        elif sequences:
            machine.iteration_s = MIXED_FACTOR * machine.seconds("prompt", prompt_tokens + sequences)
        else:
            machine.iteration_s = machine.seconds("prompt", prompt_tokens)
        machine.began_s = self.now_s
        machine.run = next(self.numbers)
        self.later(machine.began_s + machine.iterations * machine.iteration_s, "end", machine, machine.run)

    def cut_short(self, machine: Machine) -> None:
        """End a run of token iterations at its next boundary."""
        until = max(1, ceil((self.now_s - machine.began_s) / machine.iteration_s))
        if until < machine.iterations:
            machine.iterations = until
            machine.run = next(self.numbers)
            self.later(machine.began_s + until * machine.iteration_s, "end", machine, machine.run)

    def iterations_end(self, machine: Machine) -> None:
        """Complete tasks in batch order, then go on with the next batch."""
        machine.run = 0
        for task in list(machine.batch):
            task.left -= machine.iterations
            if task.left > 0:
                continue
            machine.batch.remove(task)
            task.done = True
            request = task.request
            if task.is_prompt:
                request.first_s = self.now_s
                machine.pending_tokens -= request.prompt_tokens
                if request.output_tokens == 1:
                    self.complete(request, machine)
                elif request.tokens_at is not machine:
                    self.transfer_starts(request)
            else:
                self.complete(request, machine)
        if not machine.requests:
            if machine in self.pools["mixed"] and not self.baseline:
                self.move(machine, machine.pool)
            return
        self.start(machine)

    def complete(self, request: Request, machine: Machine) -> None:
        """Complete a request: free all its memory and its scheduled tokens."""
        request.last_s = self.now_s
        held = request.total_tokens if request.output_tokens > 1 else request.prompt_tokens + 1
        machine.used_tokens -= held
        request.tokens_at.pending_tokens -= 1
        request.tokens_at.scheduled_tokens -= request.total_tokens
        if request.output_tokens == 1 and request.prompt_at is not request.tokens_at:
            request.prompt_at.scheduled_tokens -= request.prompt_tokens + 1

    # Transfers

    def transfer_starts(self, request: Request) -> None:
        """Take the memory at the destination, or try again in a second."""
        if request.tokens_at.has_room(request.prompt_tokens + 1):
            request.tokens_at.take(request.prompt_tokens + 1)
            self.later(self.now_s + self.transfer_s[id(request)], "landed", request)
        else:
            request.retries += 1
            self.later(self.now_s + RETRY_S, "transfer", request)

    def transfer_ends(self, request: Request) -> None:
        """Free the source, queue the tokens, and let the source go on."""
        source = request.prompt_at
        source.used_tokens -= request.prompt_tokens + 1
        source.scheduled_tokens -= request.prompt_tokens + 1
        self.task_arrives(request.tokens_at, request.decode)
        if source.waiting:
            if not source.run:
                if source.has_room(source.waiting[0].memory_tokens):
                    self.start(source)
            elif source.only_tokens and len(source.batch) < BATCH_REQUESTS and source.batch_tokens < BATCH_TOKENS:
                self.cut_short(source)


def simulate_published(
    rows: list[tuple[float, int, int]], pools: dict[str, list[ReplicaPerf]], bandwidth_bytes_per_s: float
) -> Published:
    """Requests (arrival_s, prompt, output) on pools of machines ("prompt" and "token", or "mixed")."""
    requests = [Request(*row) for row in rows]
    machines = [Machine(perf, pool) for pool, perfs in pools.items() for perf in perfs]
    kv_bytes = machines[0].perf.kv_bytes_per_token
    transfer_s = [request.prompt_tokens * kv_bytes / bandwidth_bytes_per_s for request in requests]
    return Published(requests, machines, transfer_s).run()
