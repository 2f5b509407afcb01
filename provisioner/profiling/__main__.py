"""``python -m provisioner.profiling``: a profile on a machine that has PyTorch and little else."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from provisioner.errors import ProvisionerError
from provisioner.profiling.grid import Grid
from provisioner.profiling.result import output_paths
from provisioner.profiling.run import DEFAULT_REPEATS, DEFAULT_WARM_UP, profile
from provisioner.profiling.shape import read_shape


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas between, got {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m provisioner.profiling",
        description="Time prompt and decode iterations of a model's shape with random weights; writes a curve file.",
    )
    add = parser.add_argument
    add("--shape", required=True, type=Path, metavar="FILE.yaml", help="model file with the shape")
    add("--machine", required=True, metavar="NAME", help="machine that the curve is of")
    add("--out", required=True, type=Path, metavar="FILE.csv", help="curve file; a .yaml lies beside it")
    add("--tp", type=int, default=1, help="tensor parallelism; one GPU's share is timed")
    add("--device", default="cuda", help="cuda, cuda:N or cpu")
    add("--dtype", help="bf16, fp16 or fp32")
    add("--repeats", type=int, default=DEFAULT_REPEATS)
    add("--warm-up", type=int, default=DEFAULT_WARM_UP)
    add("--memory-gib", type=float, help="memory to plan with; what is free unless given")
    for name, default in asdict(Grid()).items():
        add(f"--{name.replace('_', '-')}", type=_numbers if isinstance(default, tuple) else int, default=default)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the arguments of a command line; exit code 0 done, 2 bad input, 130 interrupted."""
    given = _parser().parse_args(arguments)
    try:
        output_paths(given.out)
        grid = Grid(**{field.name: getattr(given, field.name) for field in fields(Grid)})
        result = profile(
            read_shape(given.shape),
            given.machine,
            given.tp,
            grid,
            **{name: getattr(given, name) for name in ("device", "dtype", "repeats", "warm_up")},
            memory_bytes=None if given.memory_gib is None else given.memory_gib * 2**30,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
        curve, about = result.write(given.out)
    except ProvisionerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stopped:
        print(f"interrupted: {str(stopped) or 'nothing written'}", file=sys.stderr)
        return 130
    group = f"{result.model} on {result.machine} at TP {result.tensor_parallel}"
    print(f"{len(result.points)} points of {group}, {result.provenance}: {curve}, {about}")
    print(f"layers timed: {result.layers_timed} of {result.shape.layers}")
    for point in result.left_out:
        print(f"left out: {point.work}: {point.reason}")
    for line in result.not_measured:
        print(f"not measured: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
