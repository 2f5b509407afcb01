"""A second implementation of chunked prefill on colocated replicas, iteration by iteration: a test oracle only.

An iteration gives a token budget to the requests that run, in the order they joined, then to waiting ones in order of
arrival; with prompts first, prompts alone, and the sequences run when there are none. Memory is counted anew from what
every request has; one event happens at a time, and nothing is advanced over several iterations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.specs.engine import Estimate

NEVER = float("inf")


@dataclass(frozen=True)
class Rules:
    """Requests of a batch, tokens of an iteration, order, and admission: all reserved, or by estimate, or neither."""

    requests: int = 512
    tokens: int = 2048
    prompts_first: bool = False
    reserves: bool = False
    estimate: Estimate | None = None


@dataclass(eq=False)
class Sequence:
    """A request: its generated tokens, and its tokens in the KV cache."""

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    generated: int = 0
    computed: int = 0
    chunk: int = 0
    decodes: bool = False
    evictions: int = 0
    waits: int = 0  # iterations without a token
    restarts: int = 0
    token_times: list[float] = field(default_factory=list)
    first_s: float = float("nan")
    last_s: float = float("nan")

    @property
    def to_compute(self) -> int:
        """Tokens in front of the next one to generate that are not in the cache."""
        return self.prompt_tokens + self.generated - self.computed

    @property
    def largest_gap_s(self) -> float:
        """Longest time between two tokens that a client sees."""
        return max((b - a for a, b in zip(self.token_times, self.token_times[1:], strict=False)), default=0.0)

    def lose(self) -> None:
        """Lose the KV cache."""
        self.computed, self.chunk, self.decodes = 0, 0, False

    def token(self, now_s: float) -> None:
        """Generate a token."""
        self.generated += 1
        self.decodes = True
        self.token_times.append(now_s)
        if len(self.token_times) == 1:
            self.first_s = now_s
        if self.generated == self.output_tokens:
            self.last_s = now_s


@dataclass(eq=False)
class Replica:
    """A replica: its running and waiting requests, and its place in the list of those in service."""

    perf: ReplicaPerf
    rules: Rules
    machine: int
    place: int
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    end_s: float = NEVER
    up: bool = True
    share: float = 0.0
    full: bool = False
    shrunk: bool = False
    retracted: bool = False

    def __post_init__(self) -> None:
        self.share = self.rules.estimate.first_share if self.rules.estimate else 0.0

    @property
    def pending_tokens(self) -> int:
        """Tokens of prompts not done, and one for each request."""
        return sum(1 + (s.prompt_tokens if s.generated == 0 else 0) for s in self.waiting + self.running)

    def needs(self, this: Sequence) -> int:
        """Memory of a request that runs, in tokens, this iteration's included."""
        if self.rules.reserves:
            return this.prompt_tokens + this.output_tokens
        if (self.rules.prompts_first or self.rules.estimate) and not this.decodes:
            return this.prompt_tokens + this.generated
        return this.computed + this.chunk

    def fits(self, more: Iterable[Sequence] = ()) -> bool:
        """Whether the memory holds what runs, and more."""
        return sum(map(self.needs, [*self.running, *more])) <= self.perf.kv_capacity_tokens

    def expected(self, this: Sequence) -> bool:
        """Whether the outputs, as far as the estimate says, find room beside what runs if a request joins."""
        of = self.rules.estimate
        if of is None:
            return True
        ending = [s.output_tokens for s in self.running if not s.decodes and s.chunk == s.to_compute]
        going = [s.output_tokens - s.generated for s in self.running if s.decodes]
        kept = self.share * sum(min(each, of.clip_tokens) for each in going)
        kept += sum(min(each, of.clip_tokens) for each in ending)
        kept += min(this.output_tokens - this.generated, of.clip_tokens)
        return sum(map(self.needs, [*self.running, this])) + kept <= self.perf.kv_capacity_tokens

    def wait(self, this: Sequence) -> None:
        """Put a request into the line: by arrival, or with an estimate at its end."""
        self.waiting.append(this)
        if self.rules.estimate is None:
            self.waiting.sort(key=lambda s: s.number)

    def retract(self) -> None:
        """Evict sequences until each that is left finds room for a token, and estimate again from them."""
        of = self.rules.estimate
        assert of is not None
        going = [s for s in self.running if s.decodes]
        while sum(map(self.needs, self.running)) + len(going) > self.perf.kv_capacity_tokens and going:
            going.sort(key=lambda s: (-s.generated, s.prompt_tokens, self.running.index(s)))
            last = going.pop()
            self.running.remove(last)
            last.lose()
            last.evictions += 1
            self.wait(last)
            self.retracted, self.full = True, False
        if self.retracted:
            tokens = sum(s.generated + of.retract_tokens for s in going)
            self.share = min(tokens / (sum(s.output_tokens for s in going) + 1), 1.0)

    def serve(self, running: list[Sequence], budget: int) -> tuple[int, bool]:
        """Give some of the running their tokens; the budget left, and whether one was evicted."""
        evicted = False
        for this in running:
            if this not in self.running:
                continue
            this.chunk = min(this.to_compute, budget)
            while not self.fits():
                last = self.running.pop()
                last.lose()
                last.evictions += 1
                evicted = True
                self.wait(last)
            if this in self.running:
                budget -= this.chunk
        return budget, evicted

    def admit(self, budget: int) -> int:
        """Let waiting requests join; the budget left."""
        if self.full:
            return budget
        while self.waiting and budget > 0 and len(self.running) < self.rules.requests:
            this = self.waiting[0]
            this.chunk = min(this.to_compute, budget)
            if not self.fits([this]) or not self.expected(this):
                this.chunk = 0
                break
            self.running.append(self.waiting.pop(0))
            budget -= this.chunk
        self.full = self.rules.estimate is not None and bool(self.waiting) and budget > 0
        return budget

    def schedule(self) -> None:
        """Share the budget of one iteration."""
        for this in self.running:
            this.chunk = 0
        whole, self.retracted = self.rules.tokens, False
        if not self.rules.prompts_first:
            if self.rules.estimate:
                self.retract()
            left, evicted = self.serve(list(self.running), whole)
            if not evicted and not self.retracted:
                self.admit(left)
            return
        left, _ = self.serve([s for s in self.running if not s.decodes], whole)
        if self.admit(left) == whole:
            if self.rules.estimate:
                self.retract()
            self.serve(list(self.running), len(self.running))

    def iteration_s(self) -> float:
        """Time of the iteration scheduled."""
        prompt_s = lambda tokens: float(self.perf.prompt_s(float(tokens)))  # noqa: E731
        decodes = [s for s in self.running if s.chunk and s.decodes]
        parts = [s for s in self.running if s.chunk and not s.decodes]
        alone_s = 0.0
        if decodes:
            alone_s = float(self.perf.decode_s(len(decodes), sum(s.computed + 1 for s in decodes)))
        if not parts:
            return alone_s
        further_s = 0.0
        for s in parts:
            if s.computed:
                attended_s = prompt_s(s.computed + s.chunk) - prompt_s(s.computed)
                further_s += max(attended_s - (prompt_s(s.chunk) - prompt_s(1)), 0.0)
        duration_s = prompt_s(sum(s.chunk for s in parts) + len(decodes))
        if decodes:
            rule, context = self.perf.mixed, sum(s.computed + 1 for s in decodes)
            beside_s = rule.s_per_sequence * len(decodes) + rule.s_per_token * context
            duration_s = max(rule.factor * duration_s + beside_s, alone_s)
        return duration_s + further_s

    def start(self, now_s: float) -> None:
        """Run the next iteration, or none."""
        self.schedule()
        if self.rules.estimate and not any(s.chunk and not s.decodes for s in self.running):
            if self.shrunk or not self.running:
                self.full = False
            self.shrunk = False
            if not self.running:
                self.share = self.rules.estimate.first_share
        self.end_s = now_s + self.iteration_s() if self.running else NEVER

    def finish(self) -> list[Sequence]:
        """Give every sequence whose cache is complete its token; the requests that are complete."""
        parts = [s for s in self.running if s.chunk and not s.decodes]
        alone = len(parts) == len(self.running) or not self.rules.prompts_first
        for this in self.running:
            this.computed += this.chunk
            this.waits += not this.chunk
            if this.chunk and not this.to_compute:
                this.token(self.end_s)
            this.chunk = 0
        done = [this for this in self.running if this.generated == this.output_tokens]
        self.running = [this for this in self.running if this not in done]
        if parts:
            self.full = self.full and not (done or alone or any(not this.decodes for this in self.running))
        elif self.rules.estimate:
            of = self.rules.estimate
            if not self.retracted:
                self.share = max(self.share - of.decay, of.least_share)
            self.shrunk = self.shrunk or bool(done)
        if not self.running:
            self.full = self.shrunk = False
        return done


def simulate_chunked(
    rows: list[tuple[float, int, int]],
    perf: ReplicaPerf,
    replicas: int,
    rules: Rules,
    *,
    in_flight: int | None = None,
    outages: Iterable[tuple[float, float, int]] = (),
    replicas_per_machine: int = 1,
) -> list[Sequence]:
    """Requests (arrival_s, prompt, output), each on the replica with the fewest pending tokens at its arrival.

    With ``in_flight`` requests enter when another ends, whatever their arrival. ``outages`` are (from s, until s,
    machine); the requests there start again.
    """
    sequences = [Sequence(k, *row) for k, row in enumerate(rows)]
    pool = [Replica(perf, rules, k // replicas_per_machine, k) for k in range(replicas)]
    entering = [(s.arrival_s, s) for s in sequences][: in_flight or len(sequences)]
    outside = sequences[len(entering) :]
    changes = sorted([(at_s, k, False) for at_s, _, k in outages] + [(until_s, k, True) for _, until_s, k in outages])
    homeless: list[Sequence] = []
    places = replicas

    def route(this: Sequence, now_s: float) -> None:
        known = [replica for replica in pool if replica.up]
        if not known:
            homeless.append(this)
            return
        replica = min(known, key=lambda replica: (replica.pending_tokens, replica.place))
        replica.wait(this)
        if replica.end_s == NEVER:
            replica.start(now_s)

    while True:
        first = min(pool, key=lambda replica: replica.end_s)
        entry_s = entering[0][0] if entering else NEVER
        change_s = changes[0][0] if changes else NEVER
        now_s = min(first.end_s, entry_s, change_s)
        if now_s == NEVER or all(s.generated == s.output_tokens for s in sequences):
            return sequences
        if now_s == change_s:
            _, machine, up = changes.pop(0)
            lost = homeless[:] if up else []
            for replica in [replica for replica in pool if replica.machine == machine]:
                replica.up = up
                if up:
                    replica.place, places = places, places + 1
                    continue
                lost += replica.waiting + replica.running
                for this in replica.waiting + replica.running:
                    this.lose()
                    this.generated = 0
                    this.restarts += 1
                replica.waiting, replica.running, replica.end_s = [], [], NEVER
                replica.full = replica.shrunk = False
                replica.__post_init__()
            if up:
                homeless.clear()
            for this in sorted(lost, key=lambda s: s.number):
                route(this, now_s)
        elif now_s == first.end_s:
            done = first.finish()
            for _ in done if in_flight else ():
                if outside:
                    outside[0].arrival_s = now_s
                    entering.append((now_s, outside.pop(0)))
            first.start(now_s)
        else:
            route(entering.pop(0)[1], now_s)
