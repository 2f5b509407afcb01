"""State of the simulator as flat records, which the compiled event loop reads and writes.

There is one record per request, per replica and per list, so that fields used together lie together in memory. Times
are in s from the start, memory is counted in tokens of KV cache, and a replica is the unit that schedules (a machine
runs one or several).
"""

from typing import Any, Final

import numpy as np

# Pools of a cluster with a mixed pool (policy ``splitwise``); strict pools are numbered from 0 in order of the design.
PROMPT_POOL, MIXED_POOL, TOKEN_POOL = 0, 1, 2

# States of a request.
NOT_ARRIVED: Final = 0  # in the heap: a turn of a session that arrives then
PROMPT_WAITING: Final = 1
PROMPT_RUNNING: Final = 2
TRANSFERRING: Final = 3  # KV cache on its way
LANDING: Final = 4  # all bytes sent, the last synchronisation is not over
NO_ROOM: Final = 5  # waits for memory at its destination
TOKEN_WAITING: Final = 6  # never run, or preempted
TOKEN_RUNNING: Final = 7
DONE: Final = 8
HELD: Final = 9  # no machine in service could take it
RESTARTING: Final = 10  # its machine failed; about to be routed again
RECOMPUTING: Final = 11  # evicted from its token replica, and computed again there

# States of a replica.
IDLE: Final = 0
ITERATION: Final = 1  # one iteration with prompts in it
TOKEN_RUN: Final = 2  # iterations of tokens only, advanced in one step
DOWN: Final = 3
READY: Final = 4  # to choose its next batch before the next event

# Kinds of iterations, for busy times and timelines.
PROMPTS, TOKENS, MIXED = 0, 1, 2

NEVER: Final = 1 << 62  # an iteration that no replica reaches

# Lists of a replica, each ``lists[LISTS * replica + kind]``.
BATCH: Final = 0  # tasks that run, in batch order
WAITING: Final = 1  # tasks that wait: request, or -1 - request for a token task
PROMPTS_WAITING: Final = 2  # unstarted prompts in order of arrival
PRESENT: Final = 3  # every request on the replica in order of arrival
PREEMPTED: Final = 4  # preempted token tasks in order of preemption; under strict pools evicted requests by arrival
BLOCKED: Final = 5  # requests whose KV cache waits for room here
FRESH: Final = 6  # requests whose token phase waits and never ran, in order of arrival
SENDING: Final = 7  # requests whose KV cache leaves on its link
RECEIVING: Final = 8  # requests whose KV cache comes on its link
LISTS: Final = 9

SHIFT: Final = 4  # a node of a tree has 2^4 children
NONE: Final = -1  # no replica

BLOCK: Final = 256  # tasks of a block: ``WAITING`` is cut into blocks

LIMITED: Final = ("ttft", "tbt", "e2e", "gap")
"""Metrics that the event loop counts against limits as requests complete."""
TOGETHER: Final = len(LIMITED)  # added to the metric of limits of which a request beyond any counts once


def _record(*fields: tuple[str, ...]) -> np.dtype[Any]:
    """Type of a record, from tuples of a kind of number and the names of the fields that have it."""
    return np.dtype([(name, kind) for kind, *names in fields for name in names], align=True)


# Fields used together lie near each other: a cache line has eight.
REQUEST: Final = _record(
    # while its tokens run
    ("f8", "token_s"),  # time of the latest token
    ("f8", "largest_gap_s"),
    ("i8", "ends_at"),  # iteration of its replica that completes it, while running
    ("i8", "remaining"),  # token iterations left, while waiting; tokens left (chunked prefill)
    ("i8", "prompt_tokens", "output_tokens", "state"),
    ("i8", "passed_over"),  # times, of a task that runs
    # its arrival, moves and end
    ("f8", "arrival_s", "first_s", "last_s"),
    ("f8", "event_s"),  # when its transfer's next event happens
    ("i8", "heap_at", "prompt_at", "token_at", "token_epoch"),
    # its KV cache on a link
    ("f8", "bytes_left", "bytes_per_s"),
    ("f8", "since_s"),  # time at which bytes_left was updated
    ("f8", "landing_s"),
    # its measures, and counts of its other events
    ("f8", "reference_ttft_s", "reference_tbt_s", "reference_e2e_s"),
    ("i8", "counted"),  # whether it arrived in the measured window
    ("i8", "computed"),  # tokens whose KV cache is computed (chunked prefill)
    ("i8", "chunk"),  # tokens of this iteration (chunked prefill)
    ("i8", "interrupted"),  # times it was preempted
    ("i8", "restarts"),
)

REPLICA: Final = _record(
    ("i8", "pending_tokens"),
    ("i8", "scheduled_tokens"),  # KV memory promised
    ("i8", "used_tokens"),  # KV memory taken
    ("f8", "capacity_tokens"),
    ("i8", "iterations"),
    ("f8", "start_s"),
    ("f8", "base_s", "growth_s"),  # of a token run: first iteration, and what each further one adds
    ("i8", "run_iterations", "batch_tokens"),
    ("i8", "context_tokens"),  # of the token tasks in the batch, with chunked prefill of the steady sequences
    ("i8", "prompt_tokens"),  # of the prompts in the batch
    ("i8", "steady"),  # first sequences of the batch, which have their tokens of the next iteration (chunked prefill)
    ("i8", "behind"),  # waiting token tasks whose own prompt has not run
    ("i8", "prompts_running"),
    # iteration that completes the first of its running token tasks; with chunked prefill iterations from now
    ("i8", "first_end"),
    ("i8", "budget_tokens"),  # of an iteration
    ("i8", "choices", "type", "machine", "home", "pool", "epoch", "next_ready", "slot", "doing"),
    ("f8", "measured_s"),  # until when the integrals below are complete
    ("f8", "kv_token_s", "queue_s", "prompts_busy_s", "tokens_busy_s", "mixed_busy_s"),
    ("f8", "mixed_pool_s"),  # time as a member of the mixed pool
    ("f8", "mixed_since_s"),
    ("i8", "most_waiting", "most_used_tokens", "generated_tokens"),
    # admission by an estimate of the output
    ("f8", "share"),  # of the output to come for which room is kept
    ("i8", "full"),  # a request found no room
    ("i8", "shrunk"),  # a sequence has ended since the last iteration that decoded
    ("i8", "retracted"),  # one was evicted for the iteration that runs
    ("i8", "receiving"),  # requests whose KV cache is on its way here
)

INTEGER: Final = np.dtype([("value", "i8")])
NUMBER: Final = np.dtype([("value", "f8")])
SEGMENT: Final = _record(("f8", "start_s", "end_s"), ("i8", "replica", "kind", "batch", "prompt_tokens"))

ARRAYS: Final = {
    "requests": REQUEST,
    "replicas": REPLICA,
    "lists": _record(("i8", "start", "room", "head", "length")),
    "arena": INTEGER,  # the values of all lists
    "tasks": _record(  # both of every request, while they wait
        ("i8", "block"),
        ("i8", "base"),  # choices of its replica when it was passed over 0 times; NEVER: behind its own prompt
    ),
    "tree_values": NUMBER,  # of the trees of ``minima``; -infinite where the least is to be found again
    "tree_leaders": _record(("i8", "replica", "stamp")),
    "heap": INTEGER,
    "types": _record(
        ("f8", "decode_s_per_token"),  # of context
        # an iteration over prompts with a decode batch beside them: times the prompt time, and for each sequence and
        # each token of its context
        ("f8", "mixed_factor", "mixed_s_per_sequence", "mixed_s_per_token"),
        ("f8", "link_bytes_per_s"),  # of one replica
    ),
    "prompt_s": NUMBER,
    "decode_s": NUMBER,
    "slots": _record(("i8", "role", "pool", "min_prompt_tokens", "max_prompt_tokens")),
    "limits": _record(
        ("i8", "metric"),  # position in LIMITED, + TOGETHER where the first such limit counts for all
        ("i8", "slowdown"),
        ("f8", "value"),  # a request beyond it counts
        ("i8", "most"),  # the run stops if more requests are beyond the value
        ("i8", "beyond"),
    ),
    "outages": _record(("f8", "time_s"), ("i8", "machine", "up")),
    "batch_time_s": NUMBER,
    "segments": SEGMENT,
    "turns": _record(  # of sessions, which stand behind as many places that they take as they arrive
        ("i8", "number"),  # of the turn that took this place
        ("i8", "next"),  # place of the turn after the one of this number, 0 without any
        ("f8", "delay_s"),  # from the answer to this number to the arrival of the next
    ),
}
"""Arrays of a run. The world has the address of each under its name, and its number of records under ``NAME_count``."""

WORLD: Final = _record(
    ("i8", *ARRAYS),
    ("i8", *(f"{name}_count" for name in ARRAYS)),
    ("i8", "tree_nodes", "first_leaf"),
    ("i8", "prompt_columns", "decode_columns"),
    # The rules.
    ("i8", "borrow"),  # the mixed pool
    ("i8", "chunked"),
    ("i8", "strict"),  # strict pools as engines schedule them: prompts in chunks, sequences that grow
    ("i8", "first_at_prompt"),  # the prompt replica emits the first token, not the token replica
    ("i8", "deflect_below_tokens", "deflect_beyond_tokens"),  # prompts below, queues beyond: to token replicas
    ("i8", "prompts_first"),  # chunks of prompts run in place of the sequences, not beside them
    ("i8", "reserve_whole"),  # memory for all of a request's tokens at once
    ("i8", "reserve_prompt"),  # memory for all tokens to compute at once, not chunk by chunk (chunked prefill)
    ("i8", "estimates"),  # room is kept for an estimate of the output (chunked prefill)
    ("f8", "first_share", "least_share", "share_fall"),  # of the output for which room is kept; its fall an iteration
    ("i8", "clip_tokens", "retract_tokens", "reserved_tokens"),
    ("i8", "share_links"),
    ("i8", "decode_floor"),  # a mixed iteration takes at least the decode time of its batch
    ("i8", "closed_loop"),
    ("i8", "tbt_by_output"),  # TBT divides by all output tokens
    ("i8", "max_pending_tokens", "batch_requests", "max_preemptions"),
    ("f8", "retry_s"),  # 0: woken when memory is freed
    ("f8", "kv_bytes_per_token", "layers"),
    ("f8", "per_layer_fixed_s"),  # 0: serialized transfers only
    ("f8", "handover_s"),  # from the end of a transfer to its arrival
    ("f8", "from_s", "until_s"),  # the measured window
    # State.
    ("f8", "now_s"),
    ("i8", "next_request"),
    ("i8", "ring"),  # request k is at place k & ring: -1 where all have one
    ("i8", "oldest", "fed"),  # the requests that have one now, to ``fed`` - 1; NEVER where all that are left do
    ("i8", "released"),  # requests that may arrive: all, or in a closed loop the ones let in
    ("i8", "next_outage", "events", "arena_free"),
    ("i8", "free_block"),  # first of the blocks that were used before, -1 without any
    ("i8", "largest_room", "next_stamp", "heap_size"),
    ("i8", "moving"),  # events in the heap that are not retries
    ("i8", "done", "in_system"),
    ("i8", "ready"),  # first of the replicas that are to choose a batch, -1 without any
    ("i8", "held"),  # requests that no machine in service could take
    ("i8", "segments_used"),
    ("i8", "moves"),  # machines moved to the mixed pool
    ("i8", "preemptions", "retries"),
)


def first_leaf(replicas: int) -> int:
    """Place of the first leaf of a tree over a number of replicas: the number of nodes above its leaves."""
    nodes, leaves = 0, 1
    while leaves < replicas:
        nodes, leaves = nodes + leaves, leaves << SHIFT
    return nodes


# Reasons for which the event loop returns.
FINISHED: Final = 0
PAUSED: Final = 1  # its number of events is done
NEEDS_ROOM: Final = 2  # the lists' arena, or the timeline, is full
REJECTED: Final = 3  # a limit is broken for certain
STUCK: Final = 4  # requests are left that nothing can ever serve
OUTAGE_DUE: Final = 5  # a machine fails or comes back now
NEEDS_REQUESTS: Final = 6  # the next one to arrive is not among the records


World = Any  # a record of ``WORLD``; compiled code reads and writes it in place
