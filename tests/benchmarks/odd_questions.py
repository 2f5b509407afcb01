"""Times of the odd questions of ``tests/test_api.py``: ``python -m tests.benchmarks.odd_questions``."""

from __future__ import annotations

from time import perf_counter

from tests.test_api import ODD, ask


def main() -> None:
    """Print the time of each question, in s."""
    for fields in ODD:
        before = perf_counter()
        ask(**fields)
        print(f"{perf_counter() - before:7.2f} s  {fields}", flush=True)


if __name__ == "__main__":
    main()
