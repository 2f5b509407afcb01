"""``provision sweep``: every cluster of a design, or clusters over an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from provisioner.cli import simulate_options as simulation
from provisioner.cli import sweep_options as sweeping
from provisioner.cli.given import Given, only, takes, without
from provisioner.cli.options import CLUSTER, LIMITS, JsonOption, OutOption
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import result_text
from provisioner.errors import InputError
from provisioner.specs.units import parse_whole

if TYPE_CHECKING:
    from provisioner.results.grid import Grid


@takes(
    sweeping.CLUSTER,
    only(simulation.CLUSTER, "tensor_parallel", "prompt_tensor_parallel", "token_tensor_parallel"),
    only(CLUSTER, "prices"),
    sweeping.SWEEP,
    simulation.WORKLOAD,
    LIMITS,
    simulation.POLICY,
    without(simulation.METHOD, "repeat"),
    sweeping.SCALE,
)
def sweep(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Simulate every size of a design's pools, or clusters over an input.

    Answers with the optimum, the frontier of clusters that pass, which limit binds where, and every percentile of every
    cluster in the files of --out. With --vary: latency against the rate or any other input. Clusters that fail are
    part of the result: exit code 0.
    """
    from provisioner.report.views.grid import document

    if "vary" in given:
        if "objective" in given:
            raise InputError("--objective: is of a sweep of sizes; leave it out with --vary")
        grid = _input(given, out or ())
    else:
        if "clusters" in given:
            raise InputError("--cluster: is for --vary; give --design with ranges of its machines")
        grid = _sizes(given, out or ())
    emit(result_text(grid, document, out or (), json))


def _sizes(given: Given, out: Sequence[str]) -> Grid:
    from provisioner import api

    with on_stderr() as progress:
        return api.sweep(out=out, progress=progress, **given)


def _input(given: Given, out: Sequence[str]) -> Grid:
    from provisioner import api

    name, values = given.pop("vary")
    for role in ("prompt", "token", "mixed"):
        text = given.pop(role, None)
        if text is None:
            continue
        if "clusters" in given:
            raise InputError(f"--cluster: has the number of machines; leave out --{role}")
        if not text.strip().isdigit():
            raise InputError(f"--{role}: must be one number with --vary, which is at fixed sizes, got {text!r}")
        given[f"{role}_machines"] = parse_whole(text, f"--{role}", "machines")
    with on_stderr() as progress:
        return api.vary(name=name, values=values, out=out, progress=progress, **given)
