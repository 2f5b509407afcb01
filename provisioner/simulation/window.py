"""The window of requests that a long run holds: fed in order of arrival, and taken out at its front as they complete.

The event loop finds request k at place ``k & ring`` of its records, so that memory is that of the requests that are in
the cluster and of a chunk to come. What a result needs of each request is kept in ``OUTCOME``.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time
from provisioner.perf.assumptions import Reference
from provisioner.simulation import records
from provisioner.simulation.requests import RequestSet

CHUNK: Final = 1 << 15  # requests that are fed at a time
LEAST: Final = 1 << 16  # requests beyond which a set is fed in chunks

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


def records_of(requests: RequestSet, reference: Reference, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Records of the requests ``first`` to ``last`` - 1 with their times alone, as they are before they arrive."""
    of = slice(first, last)
    prompt, output = requests.prompt_tokens[of], requests.output_tokens[of]
    fresh = np.zeros(prompt.size, dtype=records.REQUEST)
    for name, values in (
        ("arrival_s", requests.arrival_s[of]),
        ("event_s", requests.arrival_s[of]),
        ("prompt_tokens", prompt),
        ("output_tokens", output),
        ("counted", requests.counted_of(first, last)),
    ):
        check_time()
        fresh[name] = values
    for metric in ("ttft", "tbt", "e2e"):
        check_time()
        fresh[f"reference_{metric}_s"] = alone_s(reference, metric, prompt, output)
    fresh["first_s"] = fresh["last_s"] = np.nan
    fresh["heap_at"] = -1
    return fresh


def alone_s(
    reference: Reference, metric: str, prompt: NDArray[np.int64], output: NDArray[np.int64]
) -> NDArray[np.float64]:
    """TTFT, TBT or E2E of requests alone on the reference, in s (n,)."""
    of = {
        "ttft": lambda: reference.ttft_s(prompt),
        "tbt": lambda: reference.tbt_s(prompt, output),
        "e2e": lambda: reference.e2e_s(prompt, output),
    }
    return np.asarray(of[metric]())


@dataclass(slots=True)
class Window:
    """Requests ``first`` to ``fed`` - 1 of a run in its records, and the outcomes of those before."""

    requests: RequestSet
    reference: Reference
    arrays: dict[str, NDArray[Any]]
    world: Any
    outcomes: NDArray[Any] = field(init=False)
    first: int = 0
    fed: int = 0

    def __post_init__(self) -> None:
        self.outcomes = np.empty(self.requests.requests, dtype=OUTCOME)

    def feed(self) -> None:
        """Take out the complete requests at the front, and let in the next chunk."""
        state = self.arrays["requests"]["state"][self._places(self.first, int(self.world["next_request"]))]
        left = np.flatnonzero(state != records.DONE)
        self._take_out(self.first + (int(left[0]) if left.size else state.size))
        last = min(self.fed + CHUNK, self.requests.requests)
        self._make_room(last - self.first)
        places = self._places(self.fed, last)
        self.arrays["requests"][places] = records_of(self.requests, self.reference, self.fed, last)
        self.arrays["blocks"].reshape(-1, 2)[places] = 0
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

    def _places(self, first: int, last: int) -> NDArray[np.int64]:
        return np.arange(first, last) & int(self.world["ring"])

    def _take_out(self, last: int) -> None:
        places = self._places(self.first, last)
        for name in OUTCOME.names or ():
            self.outcomes[name][self.first : last] = self.arrays["requests"][name][places]
        self.first = last
        self.world["oldest"] = last

    def _make_room(self, count: int) -> None:
        """Double the places until a number of requests has one each."""
        old = self._places(self.first, self.fed)
        size = int(self.world["ring"]) + 1
        if count <= size:
            return
        while size < count:
            size *= 2
        self.world["ring"] = size - 1
        new = self._places(self.first, self.fed)
        for name, each in (("requests", 1), ("blocks", 2), ("heap", 0)):
            array = np.zeros(size * max(each, 1), dtype=self.arrays[name].dtype)
            if each:
                array.reshape(-1, each)[new] = self.arrays[name].reshape(-1, each)[old]
            else:  # it is no ring
                array[: self.arrays[name].size] = self.arrays[name]
            self.arrays[name] = array
            self.world[name] = array.ctypes.data
