"""Latency curves of one replica: prompt time over batched tokens, decode time over batch and context.

The measured form is that of ``docs/reference/hardware.md``, *Latency curves*. In the published simulator's form both
curves go through every row, decode time is looked up at sequences on the axis of prompt tokens, without context.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from provisioner.errors import InputError
from provisioner.perf.checks import Dip, Floats, RefusedPoint, find_unphysical, isotonic
from provisioner.perf.points import CurvePoint, Phase, Provenance, read_knots, read_points
from provisioner.perf.provenance import load_provenance
from provisioner.specs.catalog import Catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.shipped import data_folder

Assumptions = Literal["measured", "splitwise-sim"]

Group = tuple[str, str, int]  # name of a group of curves: its model, its machine, its tensor parallelism

MAX_CONTEXT_SLOPE_RATIO: Final = 2.0
"""Largest context slope used, as a multiple of the time to read the KV cache at full HBM bandwidth.

1 is the physical floor, sensible values are 1.2 to 3: BLOOM-176B's fits give 1.0 and 1.6, kernels measured with a
full batch at Llama2-70B's shape 1.2 (H100) to 1.3 (A100; AIConfigurator's database).
"""

MAX_BATCHED_PROMPT_TOKENS: Final = 2048
"""Prompt tokens up to which a scheduler puts several prompts into one iteration (Splitwise, section IV-B).

An iteration above it is always one prompt. A batch of 512-token prompts with the same total differs from it by -15 to
+34 % in the published measurements.
"""

_FAR: Final = 1e12  # position of the outermost knot of a curve, in tokens or sequences: beyond any work


@dataclass(frozen=True, slots=True, eq=False)
class PiecewiseLinear:
    """A function of an amount of work, linear between its knots; beyond them the end segments go on, from 0 on.

    ``x`` (n,) is above 0 and rises strictly, ``y`` (n,), n at least 2. If the first segment would fall to 0 before
    no work is left, values below the first knot are in proportion to the work, an assumption.

    >>> PiecewiseLinear(np.array([1.0, 2.0, 4.0]), np.array([10.0, 20.0, 60.0]))([0, 2, 3, 5]).tolist()
    [0.0, 20.0, 40.0, 80.0]
    >>> PiecewiseLinear(np.array([64.0, 2048.0]), np.array([1.0, 100.0]))([16, 64, 1056]).tolist()
    [0.25, 1.0, 50.5]
    """

    x: Floats
    y: Floats
    _far_x: Floats = field(init=False, repr=False)
    _far_y: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the knots; add one at 0 and one far out, on the lines of the end segments."""
        rising = self.x.size >= 2 and self.x[0] > 0 and bool((np.diff(self.x) > 0).all())
        if self.x.shape != self.y.shape or not rising:
            raise InputError(f"curve: must have 2 or more knots rising from above 0, got {self.x.tolist()}")
        first, last = np.diff(self.y)[[0, -1]] / np.diff(self.x)[[0, -1]]
        at_zero = max(self.y[0] - first * self.x[0], 0.0)
        far = self.y[-1] + last * (_FAR - self.x[-1])
        object.__setattr__(self, "_far_x", np.concatenate([[0.0], self.x, [_FAR]]))
        object.__setattr__(self, "_far_y", np.concatenate([[at_zero], self.y, [far]]))

    def __call__(self, at: ArrayLike) -> Floats:
        """Value at ``at``, any shape, the shape of ``at``."""
        return np.asarray(np.interp(np.asarray(at, dtype=np.float64), self._far_x, self._far_y), dtype=np.float64)

    def at_best(self) -> "PiecewiseLinear":
        """The line on which no amount of work is slower per unit than a smaller one; nowhere above this line.

        At each knot it is x min(y_j / x_j) over the knots up to x; beyond the last one until this line is below that.

        >>> PiecewiseLinear(np.array([1.0, 2.0, 4.0]), np.array([10.0, 16.0, 40.0])).at_best()([1, 2, 3, 4, 8]).tolist()
        [10.0, 16.0, 24.0, 32.0, 64.0]
        """
        slope, last = float(np.diff(self._far_y)[-1] / np.diff(self._far_x)[-1]), float(self.x[-1])
        least = float((self.y / self.x).min())
        meets = (float(self.y[-1]) - slope * last) / (least - slope) if slope < least else last
        meets = min(meets, _FAR / 4.0)
        x = np.append(self.x, [meets, 2.0 * meets] if meets > last else 2.0 * last)
        return PiecewiseLinear(x, x * np.minimum.accumulate(self(x) / x))


@dataclass(frozen=True, slots=True)
class ContextFit:
    """Decode time per further token of context, in s/token: the slope used, the fitted slope, and its noise.

    ``floor_s_per_token`` is the time to read one token's KV cache at full HBM bandwidth. ``limited_by`` says which
    slope is used: the fit, the floor, or the ceiling of ``MAX_CONTEXT_SLOPE_RATIO`` times the floor.
    """

    slope_s_per_token: float
    fitted_s_per_token: float
    standard_error_s_per_token: float
    residual_s: float
    rows: int
    floor_s_per_token: float
    limited_by: Literal["fit", "floor", "ceiling"]


MIXED_FACTOR: Final = 1.1
"""Time of a mixed iteration relative to a prompt iteration over the same number of tokens (Splitwise paper)."""


@dataclass(frozen=True, slots=True)
class MixedIteration:
    """Rule for the time of an iteration over prompts that carries a decode batch, in s.

    factor x prompt time of (prompt tokens + batch) + ``s_per_sequence`` x batch + ``s_per_token`` x context tokens.

    >>> float(MixedIteration(factor=1.5).s(0.25, 30, 45_000))       # the factor alone: context has no effect
    0.375
    """

    factor: float = MIXED_FACTOR
    s_per_sequence: float = 0.0
    s_per_token: float = 0.0

    def with_decode(self, factor: float) -> "MixedIteration":
        """Rule with the part of the decode batch times ``factor``."""
        return MixedIteration(self.factor, factor * self.s_per_sequence, factor * self.s_per_token)

    def s(self, prompt_s: ArrayLike, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of the iteration, in s; ``prompt_s``: time of a prompt iteration over all its tokens; broadcast."""
        prompt, sequences, context = (np.asarray(x, dtype=np.float64) for x in (prompt_s, batch, context_tokens))
        return self.factor * prompt + self.s_per_sequence * sequences + self.s_per_token * context


@dataclass(frozen=True, slots=True, eq=False)
class CurveSet:
    """Both curves of one (model, machine, tensor parallelism), with their evidence.

    ``prompt`` is over batched prompt tokens, of one prompt alone above ``MAX_BATCHED_PROMPT_TOKENS``; ``decode`` over
    the batch at ``axis_context_tokens`` of context per sequence (in the published simulator's form: over its key),
    rising by ``slope_s_per_context_token`` for each further token that the batch holds, which ``context`` fits.
    """

    model: str
    machine: str
    tensor_parallel: int
    assumptions: Assumptions
    prompt: PiecewiseLinear
    decode: PiecewiseLinear
    axis_context_tokens: float
    provenance: tuple[Provenance, ...]
    sources: tuple[str, ...]
    slope_s_per_context_token: float = 0.0
    context: ContextFit | None = None
    points: tuple[CurvePoint, ...] = ()
    refused: tuple[RefusedPoint, ...] = ()
    dips: tuple[Dip, ...] = ()
    mixed: MixedIteration = MixedIteration()
    known_prompt_tokens: float = float("inf")  # the curve beyond is extrapolated

    @property
    def evidence(self) -> Literal["measured", "derived", "estimated"]:
        """The weakest evidence among its points."""
        return (
            "estimated" if "estimated" in self.provenance else "derived" if "derived" in self.provenance else "measured"
        )

    @property
    def group(self) -> Group:
        """The (model, machine, tensor parallelism) that the curves are of."""
        return self.model, self.machine, self.tensor_parallel

    @property
    def times(self) -> tuple[object, ...]:
        """Everything that times depend on: equal for curves of one GPU in two machine types."""
        evidence = ("machine", "sources", "provenance", "context", "points", "refused", "dips")
        return tuple(
            (value.x.tobytes(), value.y.tobytes()) if isinstance(value, PiecewiseLinear) else value
            for field in fields(self)
            if field.name not in evidence
            for value in (getattr(self, field.name),)
        )

    @property
    def kept(self) -> tuple[CurvePoint, ...]:
        """Points that passed the checks: all but the refused."""
        refused = {r.point for r in self.refused}
        return tuple(p for p in self.points if p not in refused)

    @property
    def prompt_points(self) -> tuple[CurvePoint, ...]:
        """Points that the prompt curve goes through: the kept ones whose work a scheduler runs."""
        return tuple(p for p in self.kept if p.phase == "prompt" and is_run(p.prompt_tokens, p.batch))

    @property
    def decode_points(self) -> tuple[CurvePoint, ...]:
        """Kept points of the token phase."""
        return tuple(p for p in self.kept if p.phase == "decode")

    @property
    def assumed(self) -> tuple[str, ...]:
        """Assumptions on work below the curves' first points, for messages."""
        curves = (("prompt", "tokens", self.prompt), ("decode", "sequences", self.decode))
        return tuple(
            f"{phase} below {curve.x[0]:g} {unit}: assumed in proportion, since the line through the first two points "
            "falls below 0"
            for phase, unit, curve in curves
            if curve.x[0] > 1 and not curve(0.0)
        )

    @property
    def prompt_range_tokens(self) -> tuple[float, float]:
        """Range of prompt tokens between the curve's knots."""
        return float(self.prompt.x[0]), min(float(self.prompt.x[-1]), self.known_prompt_tokens)

    @property
    def decode_batch_range(self) -> tuple[int, int]:
        """Range of batches between the decode curve's knots, from 1 in the published simulator's form."""
        first = int(self.decode.x[0]) if self.assumptions == "measured" else 1
        return first, int(self.decode.x[-1])

    @property
    def decode_context_range(self) -> tuple[float, float]:
        """Measured range of the context that a batch holds in total, in tokens; unbounded if context has no effect."""
        held = [p.context_tokens for p in self.decode_points]
        return (min(held), max(held)) if held else (0.0, float("inf"))

    def prompt_s(self, tokens: ArrayLike) -> Floats:
        """Time of one prompt iteration over ``tokens`` batched prompt tokens, in s; any shape."""
        return self.prompt(tokens)

    def decode_s(self, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of one decode iteration, in s: base(batch) + slope x (context of all - batch x axis context)."""
        sequences = np.asarray(batch, dtype=np.float64)
        beyond = np.asarray(context_tokens, dtype=np.float64) - self.axis_context_tokens * sequences
        return self.decode(sequences) + self.slope_s_per_context_token * beyond

    def error_at(self, p: CurvePoint) -> float:
        """Signed error of the curve at a measured point, as a fraction of its time: above 0 if too slow."""
        at = self.prompt_s(p.batched_tokens) if p.phase == "prompt" else self.decode_s(p.batch, p.context_tokens)
        return float(at) / p.latency_s - 1


def is_run(prompt_tokens: int, batch: int) -> bool:
    """Whether a scheduler runs ``batch`` prompts of ``prompt_tokens`` each as one iteration.

    >>> is_run(512, 4), is_run(512, 8), is_run(4096, 1)
    (True, False, True)
    """
    return batch == 1 or prompt_tokens * batch <= MAX_BATCHED_PROMPT_TOKENS


def kv_read_s_per_token(model: ModelArchitecture, machine: Machine, tensor_parallel: int) -> float:
    """Time to read the KV cache of one token, in s/token: KV bytes per token / (GPUs x HBM bandwidth).

    >>> from provisioner.specs.catalog import machine, model
    >>> f"{kv_read_s_per_token(model('bloom-176b'), machine('dgx-a100'), 8):.3g}"
    '2.46e-07'
    """
    return model.kv_bytes_per_token / (tensor_parallel * machine.memory_bandwidth_gb_per_s * 1e9)


def fit_context_slope(points: Sequence[CurvePoint], axis_context_tokens: float, floor: float) -> ContextFit:
    """Decode time per further token of context, by least squares over the single-sequence decode rows.

    Rows with the batch axis' output length and rows with longer outputs share the slope and have an intercept each:
    their sessions differ by up to 5 ms for the same work. The result is held between ``floor`` (s/token) and
    ``MAX_CONTEXT_SLOPE_RATIO`` times it; with fewer than two rows more than intercepts it is the floor.
    """
    decodes = [p for p in points if p.phase == "decode"]
    rows = [p for p in decodes if p.batch == 1]
    context, seconds = values_of(rows, "context_tokens"), values_of(rows, "latency_s")
    outputs = {p.output_tokens for p in decodes if p.batch > 1}
    session = np.array([p.output_tokens in outputs for p in rows], dtype=bool)
    for group in (session, ~session):
        if group.any():
            context[group] -= context[group].mean()
            seconds[group] -= seconds[group].mean()
    freedom = len(rows) - len(set(session.tolist())) - 1
    spread = float(context @ context)
    if freedom < 1 or spread == 0.0:
        return ContextFit(floor, float("nan"), float("inf"), float("nan"), len(rows), floor, "floor")
    fitted = float(context @ seconds) / spread
    rest = seconds - fitted * context
    residual = float(np.sqrt(rest @ rest / freedom))
    used = min(max(fitted, floor), MAX_CONTEXT_SLOPE_RATIO * floor)
    return ContextFit(
        slope_s_per_token=used,
        fitted_s_per_token=fitted,
        standard_error_s_per_token=residual / spread**0.5,
        residual_s=residual,
        rows=len(rows),
        floor_s_per_token=floor,
        limited_by="fit" if used == fitted else "floor" if used == floor else "ceiling",
    )


def values_of(points: Sequence[CurvePoint], field: str) -> Floats:
    """Values of one field of points, shape (points,)."""
    return np.array([getattr(point, field) for point in points], dtype=np.float64)


def _knots(points: Sequence[CurvePoint], axis: str) -> tuple[Floats, Floats, Floats]:
    """Positions of a curve's knots, medians averaged by repeats, and repeats."""
    x, index = np.unique(values_of(points, axis), return_inverse=True)
    repeats = values_of(points, "repeats")
    weight = np.bincount(index, repeats).astype(np.float64)
    return x, np.bincount(index, repeats * values_of(points, "latency_s")) / weight, weight


def fit_measured(
    points: Sequence[CurvePoint], group: Group, kv_read_s_per_token: float, sources: tuple[str, ...] = ()
) -> CurveSet:
    """Curves of a group through its measured points: checked, refused ones left out, dips inside the noise levelled.

    Batches of prompts beyond ``MAX_BATCHED_PROMPT_TOKENS`` are checked, but not on the prompt curve.
    ``kv_read_s_per_token`` is the physical floor of the context slope. Decode is levelled after the context's
    part is taken off, so that its time does not fall with the batch at any fixed context per sequence.
    """
    named = "curves of {} on {} at TP {}".format(*group)
    refused = find_unphysical(points)
    out = {r.point for r in refused}
    kept = [p for p in points if p not in out]
    prompts = [p for p in kept if p.phase == "prompt" and is_run(p.prompt_tokens, p.batch)]
    decodes = [p for p in kept if p.phase == "decode"]
    batched = [p.context_per_sequence_tokens for p in decodes if p.batch > 1]
    if len({p.batched_tokens for p in prompts}) < 2 or not batched:
        raise InputError(f"{named}: must have 2 or more prompt sizes and 2 or more decode batches")
    axis_context = max(sorted(set(batched)), key=batched.count)
    axis = [p for p in decodes if p.context_per_sequence_tokens == axis_context]
    if len({p.batch for p in axis}) < 2:
        raise InputError(f"{named}: must have 2 or more decode batches at one context per sequence")
    context = fit_context_slope(kept, axis_context, kv_read_s_per_token)

    tokens, prompt_s, weight = _knots(prompts, "batched_tokens")
    level_prompt_s = isotonic(prompt_s, weight)
    batch, base_s, weight = _knots(axis, "batch")
    if (context.slope_s_per_token * axis_context * batch >= base_s).any():  # single sequences tell too steep a slope
        context = replace(context, slope_s_per_token=kv_read_s_per_token, limited_by="floor")
    of_context_s = context.slope_s_per_token * axis_context * batch
    if impossible := np.flatnonzero(of_context_s >= base_s).tolist():
        least_s, time_s = of_context_s[impossible[0]], base_s[impossible[0]]
        raise InputError(
            f"{named}: decode at batch {batch[impossible[0]]:g}: must take more than the {1e3 * least_s:.3g} ms of its "
            f"context alone, got {1e3 * time_s:.3g} ms: check the machine, its bandwidth, and the model"
        )
    level_base_s = isotonic(base_s - of_context_s, weight) + of_context_s
    return CurveSet(
        *group,
        assumptions="measured",
        prompt=PiecewiseLinear(tokens, level_prompt_s),
        decode=PiecewiseLinear(batch, level_base_s),
        axis_context_tokens=axis_context,
        slope_s_per_context_token=context.slope_s_per_token,
        context=context,
        points=tuple(points),
        refused=refused,
        dips=(*_dips("prompt", tokens, prompt_s, level_prompt_s), *_dips("decode", batch, base_s, level_base_s)),
        provenance=tuple(sorted({p.provenance for p in points})),
        sources=sources,
    )


def _dips(phase: Phase, at: Floats, measured_s: Floats, used_s: Floats) -> list[Dip]:
    changed = ~np.isclose(measured_s, used_s, rtol=1e-9, atol=0.0)
    return [Dip(phase, *values) for values in np.column_stack([at, measured_s, used_s])[changed].tolist()]


@lru_cache(maxsize=64)
def _shipped_groups() -> frozenset[Group]:
    """All (model, machine, tensor parallelism) with shipped curves; the same in both forms."""
    names = (path.stem.split("__") for path in (data_folder("hardware_specs") / "curves/splitwise-sim").glob("*.csv"))
    return frozenset((parts[1], parts[0], int(parts[2].removeprefix("tp"))) for parts in names if len(parts) == 3)


@lru_cache(maxsize=64)
def curve_groups(own: Catalog | None = None) -> tuple[Group, ...]:
    """All (model, machine, tensor parallelism) with measured curves, shipped or the user's own, in order."""
    files = own.own_curves if own is not None else {}
    mine = {(*pair, degree) for pair, path in files.items() for degree in _points_of(path, *pair, own)}
    return tuple(sorted(_shipped_groups() | mine))


@lru_cache(maxsize=64)
def _points_of(path: Path, model: str, machine: str, _: Catalog | None) -> dict[int, tuple[CurvePoint, ...]]:
    """Points of a file by degree; the catalog is part of the cache's key, since a changed file makes a new one."""
    return read_points(path, model=model, machine=machine)


def own_file(group: Group, own: Catalog | None) -> Path | None:
    """The user's own file with curves of a group, which comes before the shipped one; None without."""
    path = own.own_curves.get(group[:2]) if own is not None else None
    return path if path is not None and group[2] in _points_of(path, *group[:2], own) else None


def evidence_of(group: Group, own: Catalog | None) -> Literal["measured", "derived", "estimated"]:
    """Weakest evidence among a curve group's rows: the user's own file may have derived or estimated rows."""
    path = own_file(group, own)
    kinds = {point.provenance for point in _points_of(path, *group[:2], own)[group[2]]} if path else set()
    return "estimated" if "estimated" in kinds else "derived" if "derived" in kinds else "measured"


@lru_cache(maxsize=64)
def load_curve_set(
    model: ModelArchitecture,
    machine: Machine,
    tensor_parallel: int,
    assumptions: Assumptions = "measured",
    own: Catalog | None = None,
) -> CurveSet:
    """Measured curves of one (model, machine, tensor parallelism) in the named form, the user's own before the shipped.

    ``InputError`` names what has curves if there are none, or file, row and field of a damaged file.
    """
    group = model.name, machine.name, tensor_parallel
    if group not in (curve_groups(own) if assumptions == "measured" else _shipped_groups()):
        raise InputError(no_curves(model.name, f"{machine.name} at TP {tensor_parallel}", own))
    curves = data_folder("hardware_specs") / "curves"
    if assumptions == "measured":
        mine = own_file(group, own)
        path = mine or curves / f"{machine.name}__{model.name}.csv"
        points = _points_of(path, model.name, machine.name, own if mine else None).get(tensor_parallel, ())
        kinds = " and ".join(sorted({point.provenance for point in points}))
        sources = (f"{machine.name}: {kinds}, {mine}",) if mine else load_provenance().sources(machine.name)
        return fit_measured(points, group, kv_read_s_per_token(model, machine, tensor_parallel), sources)
    path = curves / f"splitwise-sim/{machine.name}__{model.name}__tp{tensor_parallel}.csv"
    knots = read_knots(path, model=model.name, machine=machine.name, tensor_parallel=tensor_parallel)
    keys = np.array([k.batched_tokens for k in knots], dtype=np.float64)
    return CurveSet(
        *group,
        assumptions="splitwise-sim",
        prompt=PiecewiseLinear(keys, np.array([k.prompt_s for k in knots])),
        decode=PiecewiseLinear(keys, np.array([k.token_s for k in knots])),
        axis_context_tokens=0.0,
        provenance=("assumed",) if machine.name in load_provenance().assumed else ("measured",),
        sources=load_provenance().sources(machine.name),
    )


def no_curves(model: str, wanted: str, own: Catalog | None = None) -> str:
    """Message that refuses a group without curves and names the groups that have some."""
    groups = curve_groups(own)
    known: dict[str, list[str]] = {}
    for name, machine, tensor_parallel in groups:
        if name == model:
            known.setdefault(machine, []).append(str(tensor_parallel))
    if not known:
        models = ", ".join(sorted({name for name, _, _ in groups}))
        return f"no latency curves for the model {model}: there are curves for {models}"
    have = ", ".join(f"{machine} (TP {', '.join(sizes)})" for machine, sizes in known.items())
    return f"no latency curves for {model} on {wanted}: there are curves for {have}"
