"""The reproduction of a paper: its experiments under both sets of assumptions, kept as they are finished."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final, cast

from provisioner.errors import InputError, Interrupted, UnknownNameError
from provisioner.options import ReproduceOptions
from provisioner.options.command import command_of
from provisioner.perf.curves import Assumptions
from provisioner.progress import Step, worded
from provisioner.results.reproduction import Reproduction, Values
from provisioner.results.result import door
from provisioner.spelling import spelled
from provisioner.studies.journal import kept
from provisioner.studies.splitwise import experiments, paper
from provisioner.studies.splitwise.experiments import CALCULATED, NEEDS, World
from provisioner.studies.splitwise.findings import findings
from provisioner.version import versions

PAPERS: Final = ("splitwise",)
WORLDS: Final[tuple[Assumptions, ...]] = ("splitwise-sim", "measured")
"""The two sets of assumptions, as ``--assumptions`` names them."""

_VERSIONS: Final = ("provisioner", "numpy", "scipy", "numba", "pulp", "highspy")


def reproduce(
    options: ReproduceOptions, *, out: Sequence[str], table: str | None, progress: Callable[[str], None]
) -> Reproduction:
    """Compute the published results of a paper again, under the published simulator's rules and as measured.

    The experiments that the asked ones need are run too. ``out`` are files to write, ``table`` the one of those that
    hold one; a journal beside the first keeps finished experiments.
    """
    only = options.only
    if options.paper not in PAPERS:
        raise UnknownNameError("paper", options.paper, PAPERS)
    for each in only:
        if each not in experiments.EXPERIMENTS:
            raise UnknownNameError("experiment", each, tuple(experiments.EXPERIMENTS))
    door.open().check(out, Reproduction, table)
    needed = {needs for each in only for needs in NEEDS.get(each, ())}
    wanted = [each for each in experiments.EXPERIMENTS if not only or each in only or each in needed]
    for name in options.given() if CALCULATED.issuperset(wanted) else ():
        if name not in ("only", "resume"):
            raise InputError(f"{spelled(name)}: is of simulations, and none is asked for; leave it out")
    question = {name: value for name, value in asdict(options).items() if name != "resume"}
    values: dict[str, dict[str, Values]] = {world: {} for world in WORLDS}
    steps = [(world, each) for world in WORLDS for each in wanted]
    with kept(out, question, options.resume, dict[str, Any]) as (known, keep, where):
        for position, (world, each) in enumerate(steps):
            key = f"{world} {each}"
            if key not in known:
                step = Step(f"{position} of {len(steps)} experiments done; {each} ({world})", position, len(steps))
                progress(step)
                told = partial(_report, progress, step)
                try:
                    known[key] = experiments.EXPERIMENTS[each](World(world, options), values[world], told)
                except KeyboardInterrupt:
                    raise Interrupted(f"{position} of {len(steps)} experiments done", where) from None
                keep(key, known[key])
            values[world][each] = cast("Values", known[key])
        reproduction = Reproduction(
            paper=options.paper,
            findings=tuple(findings(*(values[world] for world in WORLDS))),
            values=values,
            sets=options.sets,
            duration_s=options.duration_s,
            seed=options.seed,
            sources=(paper.SOURCE,),
            versions=versions(_VERSIONS),
            question=question,
            command=command_of("reproduce", question, ReproduceOptions),
        )
        door.open().save(reproduction, out, table)
    return reproduction


def _report(progress: Callable[[str], None], step: Step, text: str) -> None:
    progress(worded(step, after=f": {text}"))
