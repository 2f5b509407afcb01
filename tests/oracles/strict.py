"""A second implementation of strict pools as engines schedule them, iteration by iteration: a test oracle only.

Prompt replicas compute prompts in chunks within their token budget, keep each KV cache until it is sent, and hand the
request to a token replica, which runs all its sequences in every iteration, recomputes what it had to evict, and under
``deflect`` also computes short prompts, beside its sequences or in their place. One event at a time; nothing is
advanced over several iterations. Machines may fail, and requests may be a closed loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.perf.transfer import PER_LAYER_FIXED_S
from provisioner.specs.engine import Estimate

NEVER = float("inf")


@dataclass(frozen=True)
class Rules:
    """The settings: token budgets of both pools, sequences of a batch, admission, and where prompts and tokens go."""

    prompt_tokens: int = 2048
    token_tokens: int = 2048
    sequences: int = 512
    reserve: bool = False
    first_at_prompt: bool = True
    share_links: bool = True
    handover_s: float = 0.0
    deflect_below: int = 0
    deflect_beyond: float = NEVER
    prompts_first: bool = False
    estimate: Estimate | None = None

    def line(self, waiting: list[Request]) -> list[Request]:
        """Waiting requests in order: of arrival, or with an estimate in that in which they came to wait."""
        return waiting if self.estimate else sorted(waiting, key=lambda each: each.number)


@dataclass(eq=False)
class Request:
    """A request: where it is, what is computed, and the memory that it holds there."""

    number: int
    arrival_s: float
    prompt: int
    output: int
    source: PromptReplica | None = None
    target: TokenReplica | None = None
    generated: int = 0
    computed: int = 0
    held: int = 0  # on the replica where it is, or to which it is sent
    chunk: int = 0
    evictions: int = 0
    restarts: int = 0
    homeless: bool = False  # the token replica that it was to go to has failed
    bytes_left: float = 0.0
    last_exchange_s: float = 0.0  # after all bytes are sent
    lands_s: float = NEVER
    first_s: float = float("nan")
    last_s: float = float("nan")
    token_times: list[float] = field(default_factory=list)

    @property
    def to_compute(self) -> int:
        """Tokens in front of the next one to generate that are not in the cache."""
        return self.prompt + self.generated - self.computed

    def token(self, now_s: float) -> None:
        """Generate a token."""
        self.generated += 1
        self.token_times.append(now_s)
        if len(self.token_times) == 1:
            self.first_s = now_s
        if self.generated == self.output:
            self.last_s = now_s


def chunks_s(perf: ReplicaPerf, chunks: list[tuple[int, int]], contexts: list[int]) -> float:
    """Time of an iteration over chunks (tokens before, tokens) and sequences with their contexts."""

    def prompt_s(tokens: int) -> float:
        return float(perf.prompt_s(float(tokens)))

    alone_s = float(perf.decode_s(len(contexts), sum(contexts))) if contexts else 0.0
    if not chunks:
        return alone_s
    duration_s = prompt_s(sum(tokens for _, tokens in chunks) + len(contexts))
    if contexts:
        rule = perf.mixed
        duration_s = rule.factor * duration_s + rule.s_per_sequence * len(contexts) + rule.s_per_token * sum(contexts)
        duration_s = max(duration_s, alone_s)
    attention_s = [
        prompt_s(before + tokens) - prompt_s(before) - (prompt_s(tokens) - prompt_s(1))
        for before, tokens in chunks
        if before
    ]
    return duration_s + sum(max(each, 0.0) for each in attention_s)


@dataclass(eq=False)
class PromptReplica:
    """Prompts in order of arrival, each with memory for all of it from its start until its KV cache has arrived."""

    perf: ReplicaPerf
    rules: Rules
    machine: int
    place: int
    up: bool = True
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    used: int = 0
    queued_tokens: int = 0
    end_s: float = NEVER
    refused: int = 0

    def start(self, now_s: float) -> None:
        """Run the next iteration, or none."""
        budget = self.rules.prompt_tokens
        for this in self.running:
            this.chunk = min(this.to_compute, budget)
            budget -= this.chunk
        while self.waiting and budget > 0 and len(self.running) < self.rules.sequences:
            this = self.waiting[0]
            if self.used + this.prompt + 1 > self.perf.kv_capacity_tokens:
                self.refused += 1
                break
            self.waiting.pop(0)
            self.running.append(this)
            self.used += this.prompt + 1
            assert self.used <= self.perf.kv_capacity_tokens
            this.chunk = min(this.to_compute, budget)
            budget -= this.chunk
        chunks = [(this.computed, this.chunk) for this in self.running if this.chunk]
        self.end_s = now_s + chunks_s(self.perf, chunks, []) if chunks else NEVER

    def finish(self) -> list[Request]:
        """End the iteration; the prompts that are done."""
        for this in self.running:
            this.computed += this.chunk
            this.chunk = 0
        done = [this for this in self.running if not this.to_compute]
        self.running = [this for this in self.running if this.to_compute]
        self.queued_tokens -= sum(this.prompt for this in done)
        return done


@dataclass(eq=False)
class TokenReplica:
    """Sequences that decode, or compute again what was evicted, or, deflected, their prompts."""

    perf: ReplicaPerf
    rules: Rules
    machine: int
    place: int
    up: bool = True
    requests: int = 0
    blocked: list[Request] = field(default_factory=list)  # whose KV caches wait for room
    landed: list[Request] = field(default_factory=list)
    evicted: list[Request] = field(default_factory=list)
    prompts: list[Request] = field(default_factory=list)  # deflected, not started
    running: list[Request] = field(default_factory=list)
    coming: set[int] = field(default_factory=set)  # whose KV caches are on their way
    decoding: set[int] = field(default_factory=set)
    starting: set[int] = field(default_factory=set)  # deflected prompts that run before their first token
    used: int = 0
    end_s: float = NEVER
    evictions: int = 0

    def take(self, this: Request, tokens: int) -> None:
        """Give a request memory."""
        this.held += tokens
        self.used += tokens
        assert self.used <= self.perf.kv_capacity_tokens

    def free(self, this: Request) -> None:
        """Take a request's memory back."""
        self.used -= this.held
        this.held = 0

    def kept(self) -> int:
        """Tokens that are kept for what requests here and one more generate."""
        if self.rules.estimate is None or not self.used:
            return 0
        return self.rules.estimate.reserved_tokens * (len(self.running) + len(self.landed) + len(self.coming) + 1)

    def room_for(self, this: Request) -> int | None:
        """Tokens that a KV cache takes here if it may come now, in its turn."""
        tokens = this.prompt + (this.output if self.rules.reserve else self.rules.first_at_prompt)
        first = not self.blocked or self.blocked[0] is this
        ahead = self.evicted or (self.prompts and self.prompts[0].number < this.number)
        fits = self.used + tokens + self.kept() <= self.perf.kv_capacity_tokens
        return tokens if first and not ahead and fits else None

    def schedule(self) -> None:
        """Choose the tokens of the next iteration."""
        budget = self.rules.token_tokens
        if self.rules.prompts_first:
            left = budget
            for this in self.running:
                if this.number not in self.decoding:
                    this.chunk = min(this.to_compute, left)
                    left -= this.chunk
            if self.compute(left) < budget:
                return
        evicted = self.rules.estimate is not None and self.retract()
        for this in list(self.running):
            if this not in self.running:
                continue
            if this.number in self.decoding:
                while not self.rules.reserve and self.used + 1 > self.perf.kv_capacity_tokens and this in self.running:
                    self.evict()
                    evicted = True
                if this in self.running:
                    this.chunk = 1
                    budget -= 1
                    if not self.rules.reserve:
                        self.take(this, 1)
            else:
                this.chunk = min(this.to_compute, max(budget, 0))
                budget -= this.chunk
        if evicted and self.running:
            return
        while self.landed and len(self.running) < self.rules.sequences:
            this = self.landed.pop(0)
            self.running.append(this)
            self.decoding.add(this.number)
            this.chunk = 1
            budget -= 1
        if not self.rules.prompts_first:
            self.compute(budget)
        elif not self.running:
            self.compute(self.rules.token_tokens)

    def retract(self) -> bool:
        """Evict who has the fewest tokens, then the longest prompt, until each that is left has room for one."""
        evicted = False
        while self.used + len(self.decoding) > self.perf.kv_capacity_tokens:
            going = [this for this in self.running if this.number in self.decoding]
            self.evict(min(going[::-1], key=lambda each: (each.generated, -each.prompt)))
            evicted = True
        return evicted

    def evict(self, last: Request | None = None) -> None:
        """Take a sequence out, that which joined last unless another is named, to be computed again."""
        last = last or self.running[-1]
        self.running.remove(last)
        self.free(last)
        self.decoding.discard(last.number)
        last.computed, last.chunk = 0, 0
        last.evictions += 1
        self.evictions += 1
        queue = self.prompts if last.number in self.starting else self.evicted
        self.starting.discard(last.number)
        queue[:] = self.rules.line([*queue, last])

    def compute(self, budget: int) -> int:
        """Begin what has to be computed, the evicted before prompts; the budget left."""
        for queue in (self.evicted, self.prompts):
            if queue is self.prompts and self.evicted:
                break
            while queue and budget > 0 and len(self.running) < self.rules.sequences:
                this = queue[0]
                if queue is self.prompts and self.blocked and self.blocked[0].number < this.number:
                    break
                tokens = this.prompt + (this.output if self.rules.reserve else this.generated)
                if self.used + tokens + self.kept() > self.perf.kv_capacity_tokens:
                    break
                queue.pop(0)
                self.running.append(this)
                if queue is self.prompts:
                    self.starting.add(this.number)
                self.take(this, tokens)
                this.chunk = min(this.to_compute, budget)
                budget -= this.chunk
        return budget

    def run(self, now_s: float) -> None:
        """Begin the iteration that was scheduled, if any."""
        decodes = [this for this in self.running if this.number in self.decoding and this.chunk]
        chunks = [(this.computed, this.chunk) for this in self.running if this not in decodes and this.chunk]
        contexts = [this.computed + 1 for this in decodes]
        self.end_s = now_s + chunks_s(self.perf, chunks, contexts) if chunks or contexts else NEVER

    def finish(self) -> list[Request]:
        """End the iteration; the requests that are complete."""
        for this in self.running:
            this.computed += this.chunk
            this.chunk = 0
            if not this.to_compute:
                self.decoding.add(this.number)
                self.starting.discard(this.number)
                this.token(self.end_s)
        done = [this for this in self.running if this.generated == this.output]
        self.running = [this for this in self.running if this not in done]
        for this in done:
            self.free(this)
            self.decoding.discard(this.number)
            self.requests -= 1
        return done


class Simulation:
    """Requests (arrival_s, prompt, output) on prompt and token replicas, one event at a time."""

    def __init__(
        self,
        rows: list[tuple[float, int, int]],
        prompts: list[ReplicaPerf],
        tokens: list[ReplicaPerf],
        rules: Rules,
        in_flight: int | None = None,
        outages: Iterable[tuple[float, float, int]] = (),
    ) -> None:
        """``outages`` are (from s, until s, machine); machines have as many replicas of a pool as their perf says."""
        self.rules, self.now_s, self.places = rules, 0.0, len(prompts) + len(tokens)
        self.requests = [Request(k, *row) for k, row in enumerate(rows)]
        self.entering = self.requests[:in_flight]
        self.outside = self.requests[len(self.entering) :]
        self.closed = in_flight is not None
        machine_of = [k // perf.replicas_per_machine for k, perf in enumerate(prompts)]
        first = machine_of[-1] + 1
        self.prompts = [PromptReplica(perf, rules, machine_of[k], k) for k, perf in enumerate(prompts)]
        self.tokens = [
            TokenReplica(perf, rules, first + k // perf.replicas_per_machine, len(prompts) + k)
            for k, perf in enumerate(tokens)
        ]
        self.flying: list[Request] = []  # bytes are on their way
        self.landing: list[Request] = []
        self.homeless: list[Request] = []  # no machine in service could take them
        self.changes = sorted(
            [(at_s, machine, False) for at_s, _, machine in outages]
            + [(until_s, machine, True) for _, until_s, machine in outages]
        )

    def share(self, perf: ReplicaPerf) -> float:
        """Bytes/s of a replica's part of its machine's link."""
        return perf.link_bytes_per_s * perf.tensor_parallel / perf.machine.gpus

    def speed(self, this: Request) -> float:
        """Bytes/s of a transfer: the slower of its two links, each shared equally."""
        assert this.source is not None and this.target is not None
        out, into = self.share(this.source.perf), self.share(this.target.perf)
        if self.rules.share_links:
            out /= sum(other.source is this.source for other in self.flying)
            into /= sum(other.target is this.target for other in self.flying)
        return min(out, into)

    def send(self, this: Request) -> bool:
        """Send a KV cache if it may come; whether it is on its way."""
        source, target = this.source, this.target
        assert source is not None and target is not None
        tokens = target.room_for(this)
        if tokens is None:
            if this not in target.blocked:
                target.blocked.append(this)
            return False
        target.take(this, tokens)
        target.coming.add(this.number)
        link = min(self.share(source.perf), self.share(target.perf))
        volume = source.perf.kv_bytes_per_token * this.prompt
        layers = source.perf.model.layers
        hidden = max(volume / layers, volume - link * float(source.perf.prompt_s(float(this.prompt))))
        this.bytes_left, this.last_exchange_s = volume, 0.0
        if hidden / link + PER_LAYER_FIXED_S < volume / link:
            this.bytes_left, this.last_exchange_s = hidden, PER_LAYER_FIXED_S
        this.last_exchange_s += self.rules.handover_s
        self.flying.append(this)
        return True

    def start_tokens(self, replica: TokenReplica) -> None:
        """Schedule a token replica, let KV caches come for which there is room now, and run it."""
        replica.schedule()
        while replica.blocked and self.send(replica.blocked[0]):
            replica.blocked.pop(0)
        replica.run(self.now_s)

    def arrive(self, this: Request) -> None:
        """Route a request."""
        sources = [replica for replica in self.prompts if replica.up]
        targets = [replica for replica in self.tokens if replica.up]
        if not targets:
            self.homeless.append(this)
            return
        source = min(sources, key=lambda replica: (replica.queued_tokens, replica.place), default=None)
        this.target = target = min(targets, key=lambda replica: (replica.requests, replica.place))
        target.requests += 1
        here = source is None or source.queued_tokens > self.rules.deflect_beyond
        if source is None or here or this.prompt < self.rules.deflect_below:
            target.prompts = self.rules.line([*target.prompts, this])
            if target.end_s == NEVER:
                self.start_tokens(target)
            return
        this.source = source
        source.queued_tokens += this.prompt
        source.waiting = self.rules.line([*source.waiting, this])
        if source.end_s == NEVER:
            source.start(self.now_s)

    def leave(self, done: int) -> None:
        """Let as many requests of a closed loop in as are done."""
        for this in self.outside[: done if self.closed else 0]:
            this.arrival_s = self.now_s
            self.entering.append(this)
        self.outside = self.outside[done if self.closed else 0 :]

    def again(self, lost: list[Request]) -> None:
        """Route requests of failed machines again, from scratch."""
        for this in sorted(lost, key=lambda each: each.number):
            this.source = this.target = None
            this.generated = this.computed = this.held = this.chunk = 0
            this.homeless = False
            this.restarts += 1
            self.arrive(this)

    def fail(self, machine: int) -> None:
        """Take a machine down: what is on it, or comes from it or goes to it, starts again."""
        failing: set[PromptReplica | TokenReplica] = {
            replica for replica in (*self.prompts, *self.tokens) if replica.machine == machine
        }
        lost, woken = list[Request](), list[PromptReplica | TokenReplica]()
        moving = [*self.flying, *self.landing, *(this for replica in self.tokens for this in replica.blocked)]
        for this in self.requests:
            source, target = this.source, this.target
            if target is None or (source not in failing and target not in failing) or this.generated == this.output:
                continue
            if source is not None and (this in source.waiting or this in source.running):
                if source in failing:
                    target.requests -= target not in failing and not this.homeless
                    lost.append(this)
                this.homeless = this.homeless or target in failing
            elif this in moving:
                lost.append(this)
                self.flying = [each for each in self.flying if each is not this]
                self.landing = [each for each in self.landing if each is not this]
                target.blocked = [each for each in target.blocked if each is not this]
                if target not in failing:
                    target.free(this)
                    target.coming.discard(this.number)
                    target.requests -= 1
                    while target.blocked and self.send(target.blocked[0]):
                        target.blocked.pop(0)
                    woken.append(target)
                assert source is not None
                if source not in failing:
                    source.used -= this.prompt + 1
                    woken.append(source)
            elif target in failing:
                lost.append(this)
        for replica in failing:
            fresh = type(replica)(replica.perf, self.rules, machine, replica.place, up=False)
            replica.__dict__.update(fresh.__dict__)
        for replica in woken:
            self.wake(replica)
        self.again(lost)

    def wake(self, replica: PromptReplica | TokenReplica) -> None:
        """Start an idle replica that has something to compute, with memory that was freed."""
        if replica.end_s == NEVER and isinstance(replica, PromptReplica) and replica.waiting:
            replica.start(self.now_s)
        elif replica.end_s == NEVER and isinstance(replica, TokenReplica) and (replica.prompts or replica.evicted):
            self.start_tokens(replica)

    def recover(self, machine: int) -> None:
        """Bring a machine back, empty, behind the others."""
        for replica in (*self.prompts, *self.tokens):
            if replica.machine == machine:
                replica.up, replica.place, self.places = True, self.places, self.places + 1
        held, self.homeless = sorted(self.homeless, key=lambda each: each.number), []
        for this in held:
            self.arrive(this)

    def prompts_done(self, replica: PromptReplica) -> None:
        """Hand over the prompts that an iteration ended."""
        lost, complete = [], 0
        for this in replica.finish():
            assert this.target is not None
            if self.rules.first_at_prompt:
                this.token(self.now_s)
            if this.generated == this.output or this.homeless:
                replica.used -= this.prompt + 1
                this.target.requests -= not this.homeless
                complete += this.generated == this.output
                lost += [this] if this.generated < this.output else []
                continue
            self.send(this)
        self.leave(complete)
        replica.start(self.now_s)
        self.again(lost)

    def land(self, this: Request) -> None:
        """End a transfer: the prompt replica's memory is free, the sequence waits for its first iteration."""
        source, target = this.source, this.target
        assert source is not None and target is not None
        this.computed = this.prompt if self.rules.first_at_prompt else this.prompt - 1
        source.used -= this.prompt + 1
        target.coming.discard(this.number)
        target.landed.append(this)
        target.landed.sort(key=lambda each: each.number)
        if target.end_s == NEVER:
            self.start_tokens(target)
        if source.end_s == NEVER and source.waiting:
            source.start(self.now_s)

    def run(self) -> list[Request]:
        """Serve all."""
        while True:
            ends = [(replica.end_s, k) for k, replica in enumerate([*self.prompts, *self.tokens])]
            sent = [(self.now_s + this.bytes_left / self.speed(this), this.number) for this in self.flying]
            landed = [(this.lands_s, this.number) for this in self.landing]
            end_s, k = min(ends)
            moved_s, number = min([*sent, *landed], default=(NEVER, -1))
            arrival_s = self.entering[0].arrival_s if self.entering else NEVER
            change_s = self.changes[0][0] if self.changes else NEVER
            now_s = min(end_s, moved_s, arrival_s, change_s)
            if now_s == NEVER or all(this.generated == this.output for this in self.requests):
                return self.requests
            for this in self.flying:
                this.bytes_left = max(this.bytes_left - self.speed(this) * (now_s - self.now_s), 0.0)
            self.now_s = now_s
            if now_s == change_s:
                _, machine, up = self.changes.pop(0)
                if up:
                    self.recover(machine)
                else:
                    self.fail(machine)
            elif now_s == end_s:
                if k < len(self.prompts):
                    self.prompts_done(self.prompts[k])
                else:
                    replica = self.tokens[k - len(self.prompts)]
                    self.leave(len(replica.finish()))
                    self.start_tokens(replica)
            elif now_s == moved_s:
                this = self.requests[number]
                if this in self.landing:
                    self.landing.remove(this)
                    self.land(this)
                else:
                    self.flying.remove(this)
                    if this.last_exchange_s > 0.0:
                        this.lands_s = now_s + this.last_exchange_s
                        self.landing.append(this)
                    else:
                        self.land(this)
            else:
                self.arrive(self.entering.pop(0))
