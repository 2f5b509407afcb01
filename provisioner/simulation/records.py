"""State of the simulator as flat records, which the compiled event loop reads and writes.

There is one record per request, per replica and per list, so that fields used together lie together in memory. Times
are in s from the start, memory is counted in tokens of KV cache, and a replica is the unit that schedules (a machine
runs one or several).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]

# Pools of a cluster with a mixed pool (policy ``splitwise``); strict pools are numbered from 0 in order of the design.
PROMPT_POOL: Final = 0
MIXED_POOL: Final = 1
TOKEN_POOL: Final = 2

# States of a request.
NOT_ARRIVED: Final = 0
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

# States of a replica.
IDLE: Final = 0
ITERATION: Final = 1  # one iteration with prompts in it
TOKEN_RUN: Final = 2  # iterations of tokens only, advanced in one step
DOWN: Final = 3
READY: Final = 4  # to choose its next batch before the next event

# Kinds of iterations, for busy times and timelines.
PROMPTS: Final = 0
TOKENS: Final = 1
MIXED: Final = 2

NEVER: Final = 1 << 62  # an iteration that no replica reaches

# Lists of a replica, each ``lists[LISTS * replica + kind]``.
BATCH: Final = 0  # tasks that run, in batch order
WAITING: Final = 1  # tasks that wait: request, or -1 - request for a token task
PROMPTS_WAITING: Final = 2  # unstarted prompts in order of arrival
PRESENT: Final = 3  # every request on the replica in order of arrival
PREEMPTED: Final = 4  # preempted token tasks in order of preemption
BLOCKED: Final = 5  # requests whose KV cache waits for room here
FRESH: Final = 6  # requests whose token phase waits and never ran, in order of arrival
LISTS: Final = 7

BLOCK: Final = 256  # tasks of a block: ``WAITING`` is cut into blocks

# Fields used together lie in one cache line of 64 bytes: eight of them.
REQUEST: Final = np.dtype(
    [
        # while its tokens run
        ("token_s", "f8"),  # time of the latest token
        ("largest_gap_s", "f8"),
        ("ends_at", "i8"),  # iteration of its replica that completes it, while running
        ("remaining", "i8"),  # token iterations left, while waiting; tokens left (chunked prefill)
        ("prompt_tokens", "i8"),
        ("output_tokens", "i8"),
        ("state", "i8"),
        ("preemptions", "i8"),  # while running: times passed over; while waiting: choices at count zero
        # its arrival, moves and end
        ("arrival_s", "f8"),
        ("first_s", "f8"),
        ("last_s", "f8"),
        ("event_s", "f8"),  # when its transfer's next event happens
        ("heap_at", "i8"),
        ("prompt_at", "i8"),
        ("token_at", "i8"),
        ("token_epoch", "i8"),
        # its KV cache on a link
        ("bytes_left", "f8"),
        ("bytes_per_s", "f8"),
        ("since_s", "f8"),  # time at which bytes_left was updated
        ("landing_s", "f8"),
        ("next_out", "i8"),
        ("previous_out", "i8"),
        ("next_in", "i8"),
        ("previous_in", "i8"),
        # its measures, and counts of its other events
        ("reference_ttft_s", "f8"),
        ("reference_tbt_s", "f8"),
        ("reference_e2e_s", "f8"),
        ("counted", "i8"),  # whether it arrived in the measured window
        ("computed", "i8"),  # tokens whose KV cache is computed (chunked prefill)
        ("chunk", "i8"),  # tokens of this iteration (chunked prefill)
        ("passed_over", "i8"),  # over its life
        ("restarts", "i8"),
    ],
    align=True,
)

REPLICA: Final = np.dtype(
    [
        ("pending_tokens", "i8"),
        ("scheduled_tokens", "i8"),  # KV memory promised
        ("stamp", "i8"),  # place in its pool's list
        ("used_tokens", "i8"),  # KV memory taken
        ("capacity_tokens", "f8"),
        ("iterations", "i8"),
        ("end_s", "f8"),
        ("start_s", "f8"),
        ("base_s", "f8"),  # of a token run: first iteration, and what each further one adds
        ("growth_s", "f8"),
        ("run_iterations", "i8"),
        ("batch_tokens", "i8"),
        ("context_tokens", "i8"),  # of the token tasks in the batch
        ("prompt_tokens", "i8"),  # of the prompts in the batch
        ("behind", "i8"),  # waiting token tasks whose own prompt has not run
        ("prompts_running", "i8"),
        ("first_end", "i8"),  # iteration that completes the first of its running token tasks
        ("choices", "i8"),
        ("out_flows", "i8"),
        ("in_flows", "i8"),
        ("first_out", "i8"),
        ("first_in", "i8"),
        ("type", "i8"),
        ("machine", "i8"),
        ("home", "i8"),
        ("pool", "i8"),
        ("epoch", "i8"),
        ("next_ready", "i8"),
        ("slot", "i8"),
        ("doing", "i8"),
        ("measured_s", "f8"),  # until when the integrals below are complete
        ("kv_token_s", "f8"),
        ("queue_s", "f8"),
        ("prompts_busy_s", "f8"),
        ("tokens_busy_s", "f8"),
        ("mixed_busy_s", "f8"),
        ("mixed_pool_s", "f8"),  # time as a member of the mixed pool
        ("mixed_since_s", "f8"),
        ("most_waiting", "i8"),
        ("most_used_tokens", "i8"),
        ("generated_tokens", "i8"),
    ],
    align=True,
)

LIST: Final = np.dtype([("start", "i8"), ("room", "i8"), ("head", "i8"), ("length", "i8")], align=True)

TYPE: Final = np.dtype(
    [
        ("decode_s_per_token", "f8"),  # of context
        # an iteration over prompts with a decode batch beside them: times the prompt time, and for each sequence and
        # each token of its context
        ("mixed_factor", "f8"),
        ("mixed_s_per_sequence", "f8"),
        ("mixed_s_per_token", "f8"),
        ("link_bytes_per_s", "f8"),  # of one replica
    ],
    align=True,
)

SLOT: Final = np.dtype(
    [("role", "i8"), ("pool", "i8"), ("min_prompt_tokens", "i8"), ("max_prompt_tokens", "i8")], align=True
)

LIMITED: Final = ("ttft", "tbt", "e2e", "gap")
"""Metrics that the event loop counts against limits as requests complete."""

LIMIT: Final = np.dtype(
    [
        ("metric", "i8"),  # position in LIMITED
        ("slowdown", "i8"),
        ("value", "f8"),  # a request beyond it counts
        ("most", "i8"),  # the run stops if more requests are beyond the value
        ("beyond", "i8"),
    ],
    align=True,
)

OUTAGE: Final = np.dtype([("time_s", "f8"), ("machine", "i8"), ("up", "i8")], align=True)

SEGMENT: Final = np.dtype(
    [("start_s", "f8"), ("end_s", "f8"), ("replica", "i8"), ("kind", "i8"), ("batch", "i8"), ("prompt_tokens", "i8")],
    align=True,
)

WORLD: Final = np.dtype(
    [
        # Addresses of the arrays, and their sizes.
        ("requests", "i8"),
        ("replicas", "i8"),
        ("lists", "i8"),
        ("arena", "i8"),
        ("blocks", "i8"),  # of both tasks of every request
        ("trees", "i8"),
        ("ends", "i8"),
        ("heap", "i8"),
        ("types", "i8"),
        ("prompt_s", "i8"),
        ("decode_s", "i8"),
        ("slots", "i8"),
        ("limits", "i8"),
        ("outages", "i8"),
        ("batch_time_s", "i8"),
        ("segments", "i8"),
        ("count", "i8"),  # requests
        ("replica_count", "i8"),
        ("leaves", "i8"),  # of a tree
        ("arena_room", "i8"),
        ("prompt_columns", "i8"),
        ("decode_columns", "i8"),
        ("slot_count", "i8"),
        ("limit_count", "i8"),
        ("outage_count", "i8"),
        ("segment_room", "i8"),
        # The rules.
        ("borrow", "i8"),  # the mixed pool
        ("chunked", "i8"),
        ("reserve_whole", "i8"),  # memory for all of a request's tokens at once
        ("share_links", "i8"),
        ("decode_floor", "i8"),  # a mixed iteration takes at least the decode time of its batch
        ("closed_loop", "i8"),
        ("tbt_by_output", "i8"),  # TBT divides by all output tokens
        ("max_pending_tokens", "i8"),
        ("batch_requests", "i8"),
        ("batch_tokens", "i8"),
        ("max_preemptions", "i8"),
        ("retry_s", "f8"),  # 0: woken when memory is freed
        ("kv_bytes_per_token", "f8"),
        ("layers", "f8"),
        ("per_layer_fixed_s", "f8"),  # 0: serialized transfers only
        ("from_s", "f8"),  # the measured window
        ("until_s", "f8"),
        # State.
        ("now_s", "f8"),
        ("next_request", "i8"),
        ("released", "i8"),  # requests that may arrive: all, or in a closed loop the ones let in
        ("next_outage", "i8"),
        ("events", "i8"),
        ("arena_free", "i8"),
        ("free_block", "i8"),  # first of the blocks that were used before, -1 without any
        ("largest_room", "i8"),
        ("next_stamp", "i8"),
        ("heap_size", "i8"),
        ("moving", "i8"),  # events in the heap that are not retries
        ("done", "i8"),
        ("in_system", "i8"),
        ("ready", "i8"),  # first of the replicas that are to choose a batch, -1 without any
        ("held", "i8"),  # requests that no machine in service could take
        ("segments_used", "i8"),
        ("moves", "i8"),  # machines moved to the mixed pool
        ("preemptions", "i8"),
        ("retries", "i8"),
    ],
    align=True,
)

INTEGER: Final = np.dtype([("value", "i8")])
NUMBER: Final = np.dtype([("value", "f8")])

# Reasons for which the event loop returns.
FINISHED: Final = 0
PAUSED: Final = 1  # its number of events is done
NEEDS_ROOM: Final = 2  # the lists' arena, or the timeline, is full
REJECTED: Final = 3  # a limit is broken for certain
STUCK: Final = 4  # requests are left that nothing can ever serve
OUTAGE_DUE: Final = 5  # a machine fails or comes back now


World = Any
"""A record of ``WORLD``; compiled code reads and writes it in place."""
