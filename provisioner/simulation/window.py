"""The window of requests that a long run holds: fed in order of arrival, and taken out at its front as they complete.

The event loop finds request k at place ``k & ring`` of its records, so that memory is that of the requests that are in
the cluster and of a chunk to come. What a result needs of each request is kept in ``OUTCOME``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time
from provisioner.perf.assumptions import Reference
from provisioner.simulation import records
from provisioner.simulation.requests import RequestSet

Floats = NDArray[np.float64]

CHUNK: Final = 1 << 15  # requests that are fed at a time
LEAST: Final = 1 << 16  # requests beyond which a set is fed in chunks
LONG: Final = 2_000_000  # requests beyond which nothing is kept that can be computed again

OUTCOME: Final = np.dtype(
    [(name, "f8") for name in ("arrival_s", "first_s", "last_s", "largest_gap_s")]
    + [(name, "i4") for name in ("prompt_at", "token_at", "interrupted", "restarts", "state")]
)
"""Fields of ``records.REQUEST`` that are left of a request."""


def is_fed(requests: RequestSet) -> bool:
    """Whether a request set is fed in chunks: a long one whose requests arrive at times of their own."""
    return requests.requests > LEAST and requests.follows is None and requests.in_flight is None


def places(requests: RequestSet) -> int:
    """Places of a run for the records of requests, at its start: a power of 2 for those that are fed in chunks."""
    if is_fed(requests):
        return 1 << (2 * CHUNK - 1).bit_length()
    return requests.requests if requests.follows is None else 2 * requests.requests


def records_of(
    requests: RequestSet, alone_s: Callable[[str, slice], Floats], first: int = 0, last: int | None = None
) -> NDArray[Any]:
    """Records of the requests ``first`` to ``last`` - 1 with their times alone, as they are before they arrive."""
    of = slice(first, last)
    fresh = np.zeros(requests.arrival_s[of].size, dtype=records.REQUEST)
    for name, values in (
        ("arrival_s", requests.arrival_s[of]),
        ("event_s", requests.arrival_s[of]),
        ("prompt_tokens", requests.prompt_tokens[of]),
        ("output_tokens", requests.output_tokens[of]),
        ("counted", requests.counted_of(first, last)),
    ):
        check_time()
        fresh[name] = values
    for metric in ("ttft", "tbt", "e2e"):
        check_time()
        fresh[f"reference_{metric}_s"] = alone_s(metric, of)
    fresh["first_s"] = fresh["last_s"] = np.nan
    fresh["heap_at"] = -1
    return fresh


def on_reference_s(requests: RequestSet, reference: Reference, metric: str, of: slice) -> Floats:
    """TTFT, TBT or E2E of some requests alone on the reference, in s."""
    prompt, output = requests.prompt_tokens[of], requests.output_tokens[of]
    if metric == "ttft":
        return np.asarray(reference.ttft_s(prompt))
    return np.asarray((reference.tbt_s if metric == "tbt" else reference.e2e_s)(prompt, output))


@dataclass(slots=True)
class Window:
    """Requests ``first`` to ``fed`` - 1 of a run in its records, and the outcomes of those before."""

    requests: RequestSet
    alone_s: Callable[[str, slice], Floats]
    arrays: dict[str, NDArray[Any]]
    world: Any
    outcomes: NDArray[Any] = field(init=False)
    first: int = 0
    fed: int = 0

    def __post_init__(self) -> None:
        self.outcomes = np.empty(self.requests.requests, dtype=OUTCOME)

    def feed(self) -> None:
        """Take out the complete requests at the front, and let in the next chunk."""
        self._take_out(self._front())
        last = min(self.fed + CHUNK, self.requests.requests)
        self._make_room(last - self.first)
        fresh = _as_bytes(records_of(self.requests, self.alone_s, self.fed, last))
        tasks = self.arrays["tasks"].reshape(-1, 2)
        for here, there in self._places(self.fed, last):
            _as_bytes(self.arrays["requests"])[there] = fresh[here]
            tasks[there] = 0
        self.fed = last
        self.world["fed"] = last if last < self.requests.requests else records.NEVER

    def closed(self) -> NDArray[Any]:
        """The outcomes of all requests at the end of the run."""
        self._take_out(self.fed)
        late = self.outcomes[self.fed :]
        late["arrival_s"], late["first_s"], late["last_s"] = self.requests.arrival_s[self.fed :], np.nan, np.nan
        for name in ("largest_gap_s", "prompt_at", "token_at", "interrupted", "restarts"):
            late[name] = 0
        late["state"] = records.NOT_ARRIVED
        return self.outcomes

    def _places(self, first: int, last: int) -> Iterator[tuple[slice, slice]]:
        """Stretches of requests ``first`` to ``last`` - 1, counted from ``first``, with the places that each has."""
        size, at = int(self.world["ring"]) + 1, first
        while at < last:
            place = at % size
            count = min(last - at, size - place)
            yield slice(at - first, at - first + count), slice(place, place + count)
            at += count

    def _front(self) -> int:
        """The first request that is not complete."""
        arrived = int(self.world["next_request"])
        for here, there in self._places(self.first, arrived):
            left = self.arrays["requests"]["state"][there] != records.DONE
            if left.any():
                return self.first + here.start + int(left.argmax())
        return arrived

    def _take_out(self, last: int) -> None:
        for here, there in self._places(self.first, last):
            into = self.outcomes[self.first : last][here]
            for name in OUTCOME.names or ():
                into[name] = self.arrays["requests"][name][there]
        self.first = last
        self.world["oldest"] = last

    def _make_room(self, count: int) -> None:
        """Double the places until a number of requests has one each."""
        size = int(self.world["ring"]) + 1
        if count <= size:
            return
        old = list(self._places(self.first, self.fed))
        while size < count:
            size *= 2
        self.world["ring"] = size - 1
        new = list(self._places(self.first, self.fed))
        for name, each in (("requests", 1), ("tasks", 2), ("heap", 1)):
            known = self.arrays[name]
            room = np.zeros(size * each, dtype=known.dtype)
            if name == "heap":  # it is no ring
                room[: known.size] = known
            else:
                rows = np.concatenate([_as_bytes(known, each)[there] for _, there in old])
                for here, there in new:
                    _as_bytes(room, each)[there] = rows[here]
            self.arrays[name] = room
            self.world[name] = room.ctypes.data


def _as_bytes(array: NDArray[Any], each: int = 1) -> NDArray[np.uint8]:
    """The bytes of ``each`` records a row, which are copied faster than records."""
    return array.view(np.uint8).reshape(array.size // each, -1)
