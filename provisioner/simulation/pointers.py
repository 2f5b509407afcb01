"""Records at an address (compiled), through which the event loop reaches its arrays.

A compiled function that takes arrays passes some seven words for each of them on every call; with all arrays behind one
record, a call passes one address. This quarters the time of a run, and cuts the time of compilation to a tenth.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from provisioner.simulation.records import ARRAYS, WORLD, World

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of the event loop, for the event loop only: no wrappers for Python, no counting of references.

    Nothing in the loop makes or keeps an array, so there is nothing to count. A constant among the arguments is taken
    as a number like any other: numba would compile the function again for each (a quarter of the time).
    """
    njit: Any = numba.njit  # its stubs lack these options
    result: Any = njit(nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    resolve = result.get_call_template

    def resolve_by_type(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return resolve(tuple(types.unliteral(argument) for argument in arguments), keywords)  # type: ignore[no-untyped-call]

    result.get_call_template = resolve_by_type
    return cast("Function", result)


def _record_of(name: str) -> Any:
    """Compiled function of (world, index) that returns a record of an array of ``ARRAYS``."""
    dtype, start = ARRAYS[name], WORLD.fields[name][1]  # type: ignore[index]
    record = numba.from_dtype(dtype)

    @intrinsic
    def record_at(typing: Any, world: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(64)
            here = builder.ptrtoint(arguments[0], word)
            address = builder.load(builder.inttoptr(builder.add(here, ir.Constant(word, start)), word.as_pointer()))
            offset = builder.mul(arguments[1], ir.Constant(word, dtype.itemsize))
            return builder.inttoptr(builder.add(address, offset), context.get_value_type(record))

        return record(numba.from_dtype(WORLD), types.int64), generate

    return record_at


request_at = _record_of("requests")
replica_at = _record_of("replicas")
list_at = _record_of("lists")
type_at = _record_of("types")
slot_at = _record_of("slots")
limit_at = _record_of("limits")
outage_at = _record_of("outages")
segment_at = _record_of("segments")
turn_at = _record_of("turns")
arena_at = _record_of("arena")
heap_at = _record_of("heap")
_blocks_at = _record_of("blocks")
_trees_at = _record_of("trees")
batch_time_at = _record_of("batch_time_s")
_prompt_s_at = _record_of("prompt_s")
decode_s_at = _record_of("decode_s")


@compiled
def block_of(world: World, task: int) -> Any:
    """Start of the block of a waiting task, in a list of several blocks."""
    return _blocks_at(world, 2 * task if task >= 0 else -1 - 2 * task)


@compiled
def tree_at(world: World, tree: int, node: int) -> Any:
    """A node of one of the winner trees."""
    return _trees_at(world, 2 * world.leaves * tree + node)


@compiled
def prompt_s(world: World, kind: int, tokens: int) -> float:
    """Time of a prompt iteration over ``tokens`` tokens, in s."""
    return _prompt_s_at(world, world.prompt_columns * kind + tokens).value
