"""Run of a cluster over one request set: flat records in, the compiled event loop, timestamps out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from threading import Timer
from time import perf_counter
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import TimeIsUp, check_time
from provisioner.errors import InputError
from provisioner.perf.assumptions import Reference, ReplicaPerf, tbt_divisor
from provisioner.perf.transfer import PER_LAYER_FIXED_S
from provisioner.simulation import entries, records, window
from provisioner.simulation.cluster import Cluster
from provisioner.simulation.entries import Entries
from provisioner.simulation.measure import Latencies
from provisioner.simulation.requests import RequestSet
from provisioner.specs.slo import LatencyLimit
from provisioner.specs.traces import in_order

Floats = NDArray[np.float64]

_EVENTS_PER_CALL: Final = 500_000  # at most; an event takes 0.2 us, or some 5 us where thousands of requests wait
_FIRST_EVENTS: Final = 100_000
_CALL_S: Final = 0.2  # approximate longest wait of an interrupt or a line of progress
_FIRST_ROOM: Final = 16  # places of a list before it grows
_TIMELINE_ROOM: Final = 1 << 16
_ROLE: Final = {"prompt": 0, "token": 1, "mixed": 2}
_POOL_OF_ROLE: Final = {"prompt": records.PROMPT_POOL, "token": records.TOKEN_POOL}
_POLICY_FIELDS: Final = ("max_pending_tokens", "batch_requests", "max_preemptions", "share_links")
_ESTIMATE_FIELDS: Final = ("first_share", "least_share", "clip_tokens", "retract_tokens", "reserved_tokens")
_STATUS: Final = {records.FINISHED: "finished", records.REJECTED: "rejected", records.STUCK: "stuck"}


@dataclass(frozen=True, slots=True)
class StopLimit:
    """Condition for stopping a run early: more than ``most`` measured requests beyond a value, in s or a slowdown.

    Of an attainment, that they are beyond ``value`` times any of its ``limits``, each request counted once; it stands
    behind the others.
    """

    metric: str
    kind: Literal["seconds", "slowdown"]
    value: float
    most: int
    limits: tuple[LatencyLimit, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A request set with each request's times alone on the reference: shared by the runs of every cluster.

    ``records`` are None for a set that is fed in chunks (``simulation.window``), ``alone`` has its times alone by
    metric, unless it is long.
    """

    requests: RequestSet
    reference: Reference
    records: NDArray[Any] | None = field(repr=False)
    alone: Mapping[str, Floats] = field(default_factory=dict, repr=False)

    def alone_s(self, metric: str, of: slice = slice(None)) -> Floats:
        """TTFT, TBT or E2E of some requests, or all, alone, in s."""
        if self.records is not None:
            return np.asarray(self.records[f"reference_{metric}_s"][-self.requests.requests :][of])
        if metric in self.alone:
            return self.alone[metric][of]
        return window.on_reference_s(self.requests, self.reference, metric, of)


def prepare(requests: RequestSet, reference: Reference) -> Prepared:
    """Return a request set made ready for runs: its records with the reference times."""
    alone_s = partial(window.on_reference_s, requests, reference)
    if window.is_fed(requests):
        kept = ("ttft", "tbt", "e2e") if requests.requests <= window.LONG else ()
        return Prepared(requests, reference, None, {metric: alone_s(metric, slice(None)) for metric in kept})
    given = window.records_of(requests, alone_s)
    if requests.follows is None:
        return Prepared(requests, reference, given)
    fresh = np.zeros(requests.requests, dtype=records.REQUEST)  # the places that turns take
    fresh["first_s"] = fresh["last_s"] = np.nan
    fresh["heap_at"] = -1
    return Prepared(requests, reference, np.concatenate((fresh, given)))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Outcome of a run: a record per request and per replica, in the units of ``simulation.records``.

    ``status`` is ``finished``, ``rejected`` (a limit is broken for certain; the rest was not simulated) or ``stuck``
    (requests are left that nothing can ever serve). ``batch_time_s`` (pools, batch + 1) is replica time by batch size;
    ``timeline`` has a record per stretch of work if it was requested, ``limits_beyond`` the number of requests beyond
    each limit that may stop the run. ``wall_s`` is the event loop's own time.
    """

    cluster: Cluster
    prepared: Prepared
    status: str
    requests: NDArray[Any]
    replicas: NDArray[Any]
    batch_time_s: Floats
    timeline: NDArray[Any]
    limits_beyond: NDArray[np.int64]
    clock: Any
    wall_s: float
    _latencies: list[Latencies] = field(default_factory=list, init=False, repr=False)

    @property
    def latencies(self) -> Latencies:
        """Timestamps and reference times of the requests, for measuring; made once."""
        if not self._latencies:
            self._latencies.append(self._measured())
        return self._latencies[0]

    def _measured(self) -> Latencies:
        this, output = self.requests, self.prepared.requests.output_tokens
        names = [f"reference_{metric}_s" for metric in ("ttft", "tbt", "e2e")]
        fed = self.prepared.records is None
        references = {name: self.prepared.alone_s(name.split("_")[1]) if fed else this[name] for name in names}
        return Latencies(
            first_s=np.where(np.isnan(this["last_s"]), np.nan, this["first_s"]),
            output_tokens=output,
            tbt_divisor=tbt_divisor(output, self.cluster.pools[0].perf.assumptions),
            counted=self.prepared.requests.counted,
            **{name: this[name] for name in ("arrival_s", "last_s", "largest_gap_s")},
            **references,
        )

    @property
    def window_s(self) -> float:
        """Length of the measured window: the time in which measured requests arrive."""
        return max(float(self.clock["until_s"]) - float(self.clock["from_s"]), 0.0)


def compile_simulator(progress: Callable[[str], None] = lambda _: None) -> Entries:
    """Load the event loop, or compile it; report it to ``progress`` if it takes longer than a moment."""
    check_time()
    library = entries.built()
    if library is not None:
        return library
    from provisioner.simulation import compilation

    if compilation.is_compiled():
        return compilation.LOOP
    notice = Timer(2.0, _told, (progress, compilation.NOTICE))
    notice.daemon = True
    notice.start()
    try:
        compilation.compile_entries()
    finally:
        notice.cancel()
    return compilation.LOOP


def _told(progress: Callable[[str], None], text: str) -> None:
    """Tell a progress that may look at a time limit, which is the business of the thread that works."""
    with suppress(TimeIsUp):
        progress(text)


def run(
    cluster: Cluster,
    prepared: Prepared,
    *,
    stop: Sequence[StopLimit] = (),
    timeline: bool = False,
    progress: Callable[[float, int], None] | None = None,
) -> Run:
    """Serve a request set on a cluster.

    ``stop`` ends the run as soon as a limit is broken for certain; a metric that the loop does not count ends none.
    ``progress`` receives the simulated time in s and the completed requests now and then, from the calling thread.
    Raises ``InputError`` if a request can never fit.
    """
    loop = compile_simulator()
    _check_sizes(cluster, prepared)
    check_time()
    arrays, world = _world(cluster, prepared, stop, timeline)
    check_time()
    this, address = world[0], world.ctypes.data
    requests = prepared.requests
    fed = window.Window(requests, prepared.alone_s, arrays, this) if prepared.records is None else None
    began = perf_counter()
    events = min(_FIRST_EVENTS, _EVENTS_PER_CALL)
    while True:
        called = perf_counter()
        status = loop["advance"](address, events)
        took_s = max(perf_counter() - called, 1e-6)
        events = min(max(int(events * min(_CALL_S / took_s, 4.0)), 1), _EVENTS_PER_CALL)
        if status == records.NEEDS_ROOM:
            full = "segments" if timeline and this["segments_used"] == this["segments_count"] else "arena"
            arrays[full] = np.append(arrays[full], np.zeros_like(arrays[full]))
            this[full], this[f"{full}_count"] = arrays[full].ctypes.data, arrays[full].size
        elif status == records.NEEDS_REQUESTS and fed is not None:
            fed.feed()
        elif status == records.OUTAGE_DUE:
            loop["apply_outage"](address)
        elif status != records.PAUSED:
            break
        if progress is not None:
            progress(float(this["now_s"]), int(this["done"]))
    wall_s = perf_counter() - began
    _close(arrays["replicas"], this)
    if prepared.requests.follows is not None:
        prepared = replace(prepared, requests=_arrived(prepared.requests, arrays, this))
    return Run(
        cluster=cluster,
        prepared=prepared,
        status=_STATUS[status],
        requests=fed.closed() if fed is not None else arrays["requests"][: requests.requests],
        replicas=arrays["replicas"],
        batch_time_s=arrays["batch_time_s"]["value"],
        timeline=arrays["segments"][: int(this["segments_used"])],
        limits_beyond=arrays["limits"]["beyond"],
        clock=this,
        wall_s=wall_s,
    )


def _arrived(requests: RequestSet, arrays: Mapping[str, NDArray[Any]], world: Any) -> RequestSet:
    """The turns of sessions as they arrived; those whose turn did not come are last, at the end of the run."""
    places, turns = np.split(arrays["requests"], 2)
    arrived, order = int(world["next_request"]), arrays["turns"]["number"]
    order[arrived:] = np.setdiff1d(np.arange(order.size), order[:arrived])
    places[arrived:] = turns[order[arrived:]]
    places["arrival_s"][arrived:] = world["now_s"]
    span_s = float(np.ptp(places["arrival_s"]))
    rate_rps = (order.size - 1) / span_s if span_s > 0.0 else np.inf
    return replace(requests, arrival_s=places["arrival_s"], rate_rps=rate_rps, **in_order(requests, order))


def _check_sizes(cluster: Cluster, prepared: Prepared) -> None:
    """Refuse a request that some replica to which it may be sent can never hold."""
    requests = prepared.requests
    prompt, total = requests.prompt_tokens, requests.prompt_tokens + requests.output_tokens
    for pool in cluster.pools:
        held = prompt + 1 if pool.role == "prompt" and cluster.policy.of_engines else total
        inside = (prompt >= pool.min_prompt_tokens) & (prompt <= (pool.max_prompt_tokens or np.inf))
        too_large = np.flatnonzero(inside & (held > pool.perf.kv_capacity_tokens))
        if too_large.size:
            k = int(too_large[0])
            raise InputError(
                f"request {k + 1} has {requests.prompt_tokens[k]:,} prompt and {requests.output_tokens[k]:,} output "
                f"tokens, more than the {pool.perf.kv_capacity_tokens:,.0f} that the KV cache of "
                f"{pool.perf.machine.name} holds: it could never be served"
            )


def _world(
    cluster: Cluster, prepared: Prepared, stop: Sequence[StopLimit], timeline: bool
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Arrays of a run, and the record that points at them."""
    requests, policy, perf = prepared.requests, cluster.policy, cluster.pools[0].perf
    published = perf.assumptions == "splitwise-sim"
    places = window.places(requests)
    borrow, strict = policy.name == "splitwise", policy.of_engines
    chunked = strict or policy.name == "chunked"
    whole = policy.admission == "reserve" if chunked else not published
    estimate = policy.estimate if chunked and policy.admission == "estimate" else None
    prompts_first = chunked and policy.order == "prompt-first"
    types = list({id(pool.perf): pool.perf for pool in cluster.pools}.values())
    serves = [(pool.role, pool.min_prompt_tokens, pool.max_prompt_tokens) for pool in cluster.pools]
    together = [serves.index(each) for each in serves]  # strict pools of a kind share the queue of the first
    replicas = _replicas(cluster, types, [_POOL_OF_ROLE[pool.role] for pool in cluster.pools] if borrow else together)
    lists = np.zeros(replicas.size * records.LISTS, dtype=records.ARRAYS["lists"])
    lists["room"] = _FIRST_ROOM
    lists["start"] = _FIRST_ROOM * np.arange(lists.size)
    arena_free = _FIRST_ROOM * lists.size
    largest = int((requests.prompt_tokens + requests.output_tokens).max())
    longest = max(largest, *map(cluster.budget_tokens, cluster.pools)) + policy.batch_requests
    prompt_s, decode_s, per_token_s = zip(
        *(_tables(replica, longest, policy.batch_requests) for replica in types), strict=True
    )
    for replica, prompt, decode in zip(types, prompt_s, decode_s, strict=True):
        _check_times(replica, np.append(prompt[1:], decode[1:]), policy.transfer_retry_s, float(requests.arrival_s[-1]))
    outages = [(outage.at_s, outage.machine, 0) for outage in cluster.outages]
    outages += [(outage.until_s, outage.machine, 1) for outage in cluster.outages if outage.until_s is not None]
    tree_values, tree_leaders = _trees(replicas["pool"], 3 if borrow else len(cluster.pools))
    values: dict[str, Any] = {
        "requests": np.zeros(places, dtype=records.REQUEST)
        if prepared.records is None
        else prepared.records.view(np.uint8).copy().view(records.REQUEST),  # as bytes: quickly
        "replicas": replicas,
        "lists": lists,
        "arena": np.zeros(2 * arena_free + 16384),
        "tasks": np.zeros(2 * places, dtype=records.ARRAYS["tasks"]),
        "tree_values": tree_values,
        "tree_leaders": tree_leaders,
        "heap": np.zeros(places),
        "types": [
            (
                decode_s_per_token,
                kind.mixed.factor,
                kind.mixed.s_per_sequence,
                kind.mixed.s_per_token,
                # one port per GPU; all of the machine's link as published
                kind.link_bytes_per_s if published else kind.link_share_bytes_per_s,
            )
            for decode_s_per_token, kind in zip(per_token_s, types, strict=True)
        ],
        "prompt_s": np.concatenate(prompt_s),
        "decode_s": np.concatenate(decode_s),
        "slots": [
            (_ROLE[role], first, shortest, longest_prompt or np.iinfo(np.int64).max)
            for (role, shortest, longest_prompt), first in zip(serves, together, strict=True)
        ],
        "limits": [
            (records.LIMITED.index(limit.metric), limit.kind == "slowdown", limit.value, limit.most, 0)
            for limit in stop
            if limit.metric in records.LIMITED
        ]
        + [
            (
                records.TOGETHER + records.LIMITED.index(of.metric),
                of.kind == "slowdown",
                limit.value * of.value,
                limit.most,
                0,
            )
            for limit in stop
            for of in limit.limits
        ],
        "outages": sorted(outages),
        "batch_time_s": np.zeros((len(cluster.pools), policy.batch_requests + 1)),
        "segments": np.zeros(_TIMELINE_ROOM if timeline else 0, dtype=records.SEGMENT),
        "turns": np.zeros(0),
    }
    waiting = np.empty(0, dtype=np.int64)
    if requests.follows is not None and requests.delay_s is not None:
        waits, count = np.flatnonzero(requests.follows >= 0), requests.requests
        values["turns"] = turns = np.zeros(count, dtype=records.ARRAYS["turns"])
        turns["next"][requests.follows[waits]] = count + waits
        turns["delay_s"][requests.follows[waits]] = requests.delay_s[waits]
        waiting = count + np.flatnonzero(requests.follows < 0)  # in order of time, as in a heap
        values["heap"][: waiting.size] = waiting
        values["requests"]["heap_at"][waiting] = np.arange(waiting.size)
    arrays = {name: np.asarray(value, dtype=records.ARRAYS[name]) for name, value in values.items()}
    closed = requests.in_flight is not None
    world = np.zeros(1, dtype=records.WORLD)
    for name, value in {
        **{name: array.ctypes.data for name, array in arrays.items()},
        **{f"{name}_count": array.size for name, array in arrays.items()},
        "requests_count": requests.requests,
        "ring": places - 1 if prepared.records is None else -1,
        "fed": 0 if prepared.records is None else records.NEVER,
        **{name: getattr(policy, name) for name in _POLICY_FIELDS},
        "tree_nodes": tree_values.shape[1],
        "first_leaf": records.first_leaf(replicas.size),
        "arena_free": arena_free,
        "free_block": -1,
        "largest_room": _FIRST_ROOM,
        "prompt_columns": longest + 1,
        "decode_columns": policy.batch_requests + 1,
        "borrow": borrow,
        "chunked": chunked,
        "strict": strict,
        "first_at_prompt": not strict or policy.first_token == "prompt",
        "deflect_below_tokens": policy.deflect_below_tokens if policy.name == "deflect" else 0,
        "deflect_beyond_tokens": policy.max_pending_tokens if policy.name == "deflect" else records.NEVER,
        "prompts_first": prompts_first,
        "reserve_whole": whole,
        "reserve_prompt": strict or prompts_first or whole or estimate is not None,
        "estimates": estimate is not None,
        **({name: getattr(estimate, name) for name in _ESTIMATE_FIELDS} if estimate is not None else {}),
        "share_fall": estimate.decay if estimate is not None else 0.0,
        "decode_floor": chunked or not published,
        "closed_loop": closed,
        "tbt_by_output": published,
        "retry_s": policy.transfer_retry_s,
        "kv_bytes_per_token": perf.kv_bytes_per_token,
        "layers": perf.model.layers,
        "handover_s": policy.handover_s if strict else 0.0,
        "per_layer_fixed_s": 0.0 if published else PER_LAYER_FIXED_S,
        "from_s": requests.from_s,
        "until_s": np.inf if closed or waiting.size else min(requests.until_s, float(requests.arrival_s[-1])),
        "released": 0 if waiting.size else min(requests.in_flight or requests.requests, requests.requests),
        "heap_size": waiting.size,
        "moving": waiting.size,
        "next_stamp": replicas.size,
        "ready": -1,
    }.items():
        world[name] = value
    return arrays, world


def _check_times(perf: ReplicaPerf, iterations_s: Floats, retry_s: float, until_s: float) -> None:
    """Refuse times and links that are not finite, or so short that they are lost in the last digits of the time."""
    for what, values, least, most in (
        ("s for a step", np.append(iterations_s, retry_s or 1.0), max(1e-12, 8.0 * float(np.spacing(until_s))), 1e9),
        ("bytes/s over its link", np.array([perf.link_bytes_per_s]), 1.0, 1e18),
    ):
        if not (values.min() >= least and values.max() <= most):
            has = f"has {values.min():.3g} to {values.max():.3g} {what}; a simulation takes {least:.3g} to {most:.3g}"
            raise InputError(f"{perf.machine.name}: {has}: change factors, batches, transfers' retry or arrivals")


def _replicas(cluster: Cluster, types: list[ReplicaPerf], homes: list[int]) -> NDArray[Any]:
    """Records of the replicas, pool by pool in the order of the cluster."""
    slot = np.repeat(np.arange(len(cluster.pools)), [pool.replicas for pool in cluster.pools])
    replicas = np.zeros(slot.size, dtype=records.REPLICA)
    replicas["slot"] = slot
    replicas["home"] = replicas["pool"] = np.array(homes)[slot]
    replicas["type"] = np.array([[id(perf) for perf in types].index(id(pool.perf)) for pool in cluster.pools])[slot]
    replicas["capacity_tokens"] = np.array([pool.perf.kv_capacity_tokens for pool in cluster.pools])[slot]
    replicas["budget_tokens"] = np.array(list(map(cluster.budget_tokens, cluster.pools)))[slot]
    each = [pool.perf.replicas_per_machine for pool in cluster.pools for _ in range(pool.machines)]
    replicas["machine"] = np.repeat(np.arange(cluster.machines), each)
    if cluster.policy.estimate is not None:
        replicas["share"] = cluster.policy.estimate.first_share
    replicas["first_end"] = records.NEVER
    return replicas


def _trees(pool: NDArray[np.int64], pools: int) -> tuple[Floats, NDArray[Any]]:
    """Values and leaders (trees, nodes) of the trees of ``minima``: one of all replicas by their ends, which are
    infinite, and two of each pool, in which all members have the value 0."""
    member = np.repeat(pool == np.arange(-1, pools)[:, None], 2, axis=0)[1:]
    member[0] = True
    tree, replica = np.nonzero(member)
    node = records.first_leaf(pool.size) + replica
    children = 1 << records.SHIFT
    values = np.full((2 * pools + 1, node.max() + children), np.inf)
    leaders = np.empty(values.shape, dtype=records.ARRAYS["tree_leaders"])
    leaders["replica"], leaders["stamp"] = records.NONE, records.NEVER
    values[tree, node] = np.where(tree == 0, np.inf, 0.0)
    leaders["replica"][tree, node] = leaders["stamp"][tree, node] = replica
    while node[0] > 0:
        node = (node - 1) // children
        values[tree, node] = -np.inf  # the least is to be found
    return values, leaders


@lru_cache(maxsize=32)
def _tables(perf: ReplicaPerf, longest: int, largest_batch: int) -> tuple[Floats, Floats, float]:
    """Prompt time by whole tokens (longest + 1,), decode time by batch without context, and time per context token."""
    prompt_s = np.concatenate(([0.0], perf.prompt_s(np.arange(1.0, longest + 1.0))))
    batch = np.arange(1.0, largest_batch + 1.0)
    decode_s = np.concatenate(([0.0], perf.decode_s(batch, np.zeros(largest_batch))))
    per_token_s = float(perf.decode_s(1.0, 1.0)) - float(perf.decode_s(1.0, 0.0))
    return prompt_s, decode_s, per_token_s


def _close(replicas: NDArray[Any], world: Any) -> None:
    """Complete the integrals of replicas up to the end of the run."""
    end_s = float(world["now_s"])
    if not np.isfinite(world["until_s"]):
        world["until_s"] = end_s
    end_s = min(end_s, float(world["until_s"]))

    def passed_s(since_s: Floats) -> Floats:
        return np.maximum(end_s - np.maximum(since_s, float(world["from_s"])), 0.0)

    replicas["kv_token_s"] += passed_s(replicas["measured_s"]) * replicas["used_tokens"]
    away = replicas["pool"] != replicas["home"]
    replicas["mixed_pool_s"] += np.where(away, passed_s(replicas["mixed_since_s"]), 0.0)
