"""A second implementation of chunked prefill, iteration by iteration: a test oracle only.

Whole requests on one replica, as vLLM serves by default: every iteration gives a token budget first to the sequences
that run, in the order they joined (one token, or what the budget leaves of the prompt), then to waiting requests in
order of arrival. Memory is taken token by token; when it runs out, the sequence that joined last goes back to wait and
computes all of its tokens again, and no request joins in this iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from provisioner.perf.assumptions import ReplicaPerf


@dataclass(eq=False)
class Sequence:
    """A request: its generated tokens, and its tokens in the KV cache."""

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    generated: int = 0
    computed: int = 0
    evictions: int = 0
    first_s: float = float("nan")
    last_s: float = float("nan")

    @property
    def to_compute(self) -> int:
        """Tokens in front of the next one to generate that are not in the cache."""
        return self.prompt_tokens + self.generated - self.computed

    @property
    def decodes(self) -> bool:
        """Whether only its latest token is missing: a decode, not a chunk of a prompt."""
        return self.to_compute == 1 and self.computed >= self.prompt_tokens


@dataclass(eq=False)
class Replica:
    """A replica: its running and waiting requests."""

    perf: ReplicaPerf
    batch_requests: int
    batch_tokens: int
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    chunks: dict[int, int] = field(default_factory=dict)
    end_s: float = float("inf")
    iterations: int = 0

    @property
    def pending_tokens(self) -> int:
        """Tokens of prompts not done, and one for each request."""
        return sum(1 + (s.prompt_tokens if s.generated == 0 else 0) for s in self.waiting + self.running)

    @property
    def used_tokens(self) -> int:
        """KV cache of the running sequences in tokens, this iteration's included."""
        return sum(s.computed + self.chunks.get(s.number, 0) for s in self.running)

    def schedule(self) -> None:
        """Share the budget of one iteration."""
        self.chunks, budget, evicted, k = {}, self.batch_tokens, False, 0
        while k < len(self.running):
            this = self.running[k]
            chunk = min(this.to_compute, budget)
            while self.used_tokens + chunk > self.perf.kv_capacity_tokens and this in self.running:
                last = self.running.pop()
                self.chunks.pop(last.number, None)
                last.computed, last.evictions, evicted = 0, last.evictions + 1, True
                self.waiting = sorted([*self.waiting, last], key=lambda s: s.number)
            if this in self.running:
                self.chunks[this.number] = chunk
                budget -= chunk
            k += 1
        while self.waiting and budget > 0 and not evicted and len(self.running) < self.batch_requests:
            chunk = min(self.waiting[0].to_compute, budget)
            if self.used_tokens + chunk > self.perf.kv_capacity_tokens:
                break
            this = self.waiting.pop(0)
            self.running.append(this)
            self.chunks[this.number] = chunk
            budget -= chunk

    def iteration_s(self) -> float:
        """Time of the iteration scheduled."""
        prompt_s = lambda tokens: float(self.perf.prompt_s(float(tokens)))  # noqa: E731
        decodes = [s for s in self.running if s.decodes and self.chunks[s.number] == 1]
        parts = [s for s in self.running if s not in decodes and self.chunks[s.number] > 0]
        alone_s = 0.0
        if decodes:
            alone_s = float(self.perf.decode_s(len(decodes), sum(s.computed + 1 for s in decodes)))
        if not parts:
            return alone_s
        further_s = 0.0
        for s in parts:
            if s.computed:
                chunk = self.chunks[s.number]
                attended_s = prompt_s(s.computed + chunk) - prompt_s(s.computed)
                further_s += max(attended_s - (prompt_s(chunk) - prompt_s(1)), 0.0)
        duration_s = prompt_s(sum(self.chunks[s.number] for s in parts) + len(decodes))
        if decodes:
            rule, context = self.perf.mixed, sum(s.computed + 1 for s in decodes)
            beside_s = rule.s_per_sequence * len(decodes) + rule.s_per_token * context
            duration_s = max(rule.factor * duration_s + beside_s, alone_s)
        return duration_s + further_s

    def start(self, now_s: float) -> None:
        """Run the next iteration, or none."""
        self.schedule()
        self.end_s = now_s + self.iteration_s() if self.running else float("inf")

    def finish(self) -> None:
        """Give every sequence whose cache is complete its token."""
        self.iterations += 1
        for this in list(self.running):
            this.computed += self.chunks[this.number]
            if this.to_compute:
                continue
            this.generated += 1
            if this.generated == 1:
                this.first_s = self.end_s
            if this.generated == this.output_tokens:
                this.last_s = self.end_s
                self.running.remove(this)


def simulate_chunked(
    rows: list[tuple[float, int, int]], perf: ReplicaPerf, replicas: int, batch_requests: int, batch_tokens: int
) -> list[Sequence]:
    """Requests (arrival_s, prompt, output), each on the replica with the fewest pending tokens at its arrival."""
    sequences = [Sequence(k, *row) for k, row in enumerate(rows)]
    pool = [Replica(perf, batch_requests, batch_tokens) for _ in range(replicas)]
    arrivals = list(sequences)
    while arrivals or any(replica.running for replica in pool):
        first = min(pool, key=lambda replica: replica.end_s)
        if arrivals and arrivals[0].arrival_s < first.end_s:
            this = arrivals.pop(0)
            replica = min(pool, key=lambda replica: replica.pending_tokens)
            replica.waiting.append(this)
            if not replica.running:
                replica.start(this.arrival_s)
            continue
        first.finish()
        first.start(first.end_s)
    return sequences
