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

from provisioner.simulation.records import ARRAYS, SHIFT, WORLD, World

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


def _pointer(builder: Any, world: Any, name: str, index: Any, to: Any) -> Any:
    """Pointer to a value of type ``to`` at an index of an array of ``ARRAYS``, in LLVM's terms."""
    word = ir.IntType(64)

    def field(name: str) -> Any:
        start = builder.add(builder.ptrtoint(world, word), ir.Constant(word, WORLD.fields[name][1]))  # type: ignore[index]
        return builder.load(builder.inttoptr(start, word.as_pointer()))

    address = field(name)
    if name == "requests":
        index = builder.and_(index, field("ring"))
    offset = builder.mul(index, ir.Constant(word, ARRAYS[name].itemsize))
    return builder.inttoptr(builder.add(address, offset), to)


def _record_of(name: str) -> Any:
    """Compiled function of (world, index) that returns a record of an array of ``ARRAYS``."""
    record = numba.from_dtype(ARRAYS[name])

    @intrinsic
    def record_at(typing: Any, world: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _pointer(builder, arguments[0], name, arguments[1], context.get_value_type(record))

        return record(numba.from_dtype(WORLD), types.int64), generate

    return record_at


def _siblings(builder: Any, world: Any, index: Any) -> Any:
    """Values of a node of a tree and of those behind it, as many as a node has children, as a vector of LLVM's."""
    pointer = _pointer(builder, world, "tree_values", index, ir.VectorType(ir.DoubleType(), 1 << SHIFT).as_pointer())
    return builder.load(pointer, align=8)


@intrinsic
def _least_value(typing: Any, world: Any, index: Any) -> Any:
    """Least value of the children of a node, of which the first is given, without branches to mispredict."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, word = _siblings(builder, *arguments), ir.IntType(32)
        for level in reversed(range(SHIFT)):  # the lower of the first half and the second
            halves = (
                builder.shuffle_vector(
                    values,
                    values,
                    ir.Constant(ir.VectorType(word, 1 << level), [*range(first << level, (first + 1) << level)]),
                )
                for first in (0, 1)
            )
            one, other = halves
            values = builder.select(builder.fcmp_ordered("<", one, other), one, other)
        return builder.extract_element(values, ir.Constant(word, 0))

    return types.float64(numba.from_dtype(WORLD), types.int64), generate


@intrinsic
def _have_value(typing: Any, world: Any, index: Any, value: Any) -> Any:
    """Children of a node, of which the first is given, that have a value: bit k is set for the k-th of them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _siblings(builder, *arguments[:2])
        same = ir.Constant(values.type, ir.Undefined)
        for child in range(1 << SHIFT):
            same = builder.insert_element(same, arguments[2], ir.Constant(ir.IntType(32), child))
        equal = builder.bitcast(builder.fcmp_ordered("==", values, same), ir.IntType(1 << SHIFT))
        return builder.zext(equal, ir.IntType(64))

    return types.int64(numba.from_dtype(WORLD), types.int64, types.float64), generate


@intrinsic
def _lowest_bit(typing: Any, bits: Any) -> Any:
    """Place of the lowest bit that is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def _world_at(typing: Any, address: Any) -> Any:
    """The world at an address."""
    record = numba.from_dtype(WORLD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(record))

    return record(types.int64), generate


world_at: Any = _world_at  # the types of intrinsics lack the typing context
least_value: Any = _least_value
have_value: Any = _have_value
lowest_bit: Any = _lowest_bit


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
_tasks_at = _record_of("tasks")
_tree_values_at = _record_of("tree_values")
_tree_leaders_at = _record_of("tree_leaders")
batch_time_at = _record_of("batch_time_s")
_prompt_s_at = _record_of("prompt_s")
decode_s_at = _record_of("decode_s")


@compiled
def waiting_at(world: World, task: int) -> Any:
    """A waiting task: its block in a list of several, and the count from which it is passed over."""
    place = (task if task >= 0 else -1 - task) & world.ring
    return _tasks_at(world, 2 * place + (1 if task < 0 else 0))


@compiled
def value_at(world: World, node: int) -> Any:
    """Least value below a node of the trees of ``minima``."""
    return _tree_values_at(world, node)


@compiled
def leader_at(world: World, node: int) -> Any:
    """Replica with the least value below a node of the trees of ``minima``, and its stamp."""
    return _tree_leaders_at(world, node)


@compiled
def prompt_s(world: World, kind: int, tokens: int) -> float:
    """Time of a prompt iteration over ``tokens`` tokens, in s."""
    return _prompt_s_at(world, world.prompt_columns * kind + tokens).value
