"""All-reduces that a share timed by itself lacks, from kernels measured on the machine's GPU or on others.

A replica of several GPUs adds up the GPUs' results after attention and after the MLP of every layer, and after the
embedding, which is divided by the vocabulary; the logits of the vocabulary's parts are gathered.
"""

from collections.abc import Sequence

from provisioner.perf.derived import KERNELS_ALONE
from provisioner.perf.evidence import operators_of
from provisioner.perf.operators import Operators
from provisioner.perf.points import CurvePoint
from provisioner.profiling.result import AllReduces
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture


def all_reduces_s(
    shape: ModelArchitecture, gpu: Operators, tensor_parallel: int, points: Sequence[CurvePoint], element_bytes: int
) -> tuple[float, ...]:
    """Time of all all-reduces of each point's iteration, in s.

    (2 x layers + 1) x all-reduce(tokens x hidden size x bytes) + all-reduce(sequences x vocabulary x bytes) / 2: a
    gather moves half as much. Within a CUDA graph up to ``KERNELS_ALONE.graph_tokens``, launched one by one beyond, as
    in ``perf.derived``.
    """
    seconds = []
    for point in points:
        tokens = point.batched_tokens if point.phase == "prompt" else point.batch
        hidden_bytes = element_bytes * tokens * shape.hidden_size
        hidden_s = gpu.all_reduce_s(tensor_parallel, hidden_bytes, KERNELS_ALONE.launch(tokens))
        logits_s = gpu.all_reduce_s(tensor_parallel, element_bytes * point.batch * shape.vocab_size) / 2
        seconds.append(float((2 * shape.layers + 1) * hidden_s + logits_s))
    return tuple(seconds)


def all_reduces_of(
    shape: ModelArchitecture, machine: Machine, tensor_parallel: int, points: Sequence[CurvePoint], element_bytes: int
) -> AllReduces:
    """All-reduces of each point on a machine, and their evidence.

    They are derived if they were measured between GPUs like the machine's, else estimated from other GPUs. They are
    estimated too if the GPUs are capped, since the effect of a cap on them was not measured.
    """
    gpu = operators_of(machine)
    measured = bool(machine.kernels) and not any(name.startswith("all_reduce") for name in gpu.estimated)
    derived = measured and machine.power_cap == 1.0
    source = f"the link of {machine.name} at the utilisation of all-reduces on other GPUs"
    if derived:
        source = f"all-reduces between GPUs like {machine.name}'s, table {machine.kernels}"
    return AllReduces(
        seconds=all_reduces_s(shape, gpu, tensor_parallel, points, element_bytes),
        provenance="derived" if derived else "estimated",
        source=f"{source} (hardware_specs/operators/provenance.yaml)",
    )
