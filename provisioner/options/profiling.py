"""The options of a profile: the points timed on the GPU at hand, and the number of runs."""

from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Final

from provisioner.options.base import Options
from provisioner.options.declaration import BY_NAME, Group
from provisioner.options.kinds import FOLDER, MEMORY, TEXT, whole

REPLICA: Final = Group("What to time")
POINTS: Final = Group("Points to time")
MEASUREMENT: Final = Group("Measurement")


def _listed(unit: str, help: str, default: tuple[int, ...], none: bool = False, flag: str = BY_NAME) -> Any:
    return POINTS.option(whole(unit).listed(none).once(), help, flag=flag, default=default)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions(Options):
    """The question of a profile."""

    GROUPS: ClassVar[tuple[str, ...]] = (REPLICA, POINTS, MEASUREMENT)

    model: str = REPLICA.option(TEXT, "Model whose shape to time (see provision models). Needed.", default=MISSING)
    machine: str = REPLICA.option(TEXT, "Machine type that the GPU at hand is of. Needed.", default=MISSING)
    out: str = REPLICA.option(
        FOLDER,
        "Folder of own specs into which the curve is written, for --specs; made if missing. Points of other degrees of "
        "tensor parallelism in its file stay. Needed.",
        default=MISSING,
    )
    tensor_parallel: int = REPLICA.option(
        whole("GPUs"),
        "Tensor parallelism: one GPU's share is timed, and the all-reduces are added from measured kernels.",
        default=1,
    )
    specs: str | None = REPLICA.option(FOLDER, "Folder with the model or machine, if other than the one of --out.")
    prompt_tokens: tuple[int, ...] = _listed(
        "tokens", "Lengths of single prompts.", (128, 256, 512, 1024, 2048, 4096, 8192)
    )
    prompt_batches: tuple[int, ...] = _listed(
        "prompts", "Batches of prompts of --batched-prompt-tokens each.", (2, 4), none=True
    )
    batched_prompt_tokens: int = POINTS.option(whole("tokens"), "Length of each prompt of a batch.", default=512)
    decode_batches: tuple[int, ...] = _listed(
        "sequences",
        "Batches of sequences that decode at --context: the decode curve.",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
    )
    context_tokens: int = POINTS.option(
        whole("tokens"), "Context of each sequence on the decode curve.", flag="--context", default=1024
    )
    other_context_tokens: tuple[int, ...] = _listed(
        "tokens",
        "Other contexts of each sequence, for the time that context adds.",
        (128, 256, 512, 2048, 4096, 8192),
        none=True,
        flag="--other-contexts",
    )
    context_batches: tuple[int, ...] = _listed("sequences", "Batches at each of the other contexts.", (1, 8, 64))
    device: str = MEASUREMENT.option(TEXT.shown_as("cuda[:N]|cpu"), "Device to time on.", default="cuda")
    dtype: str | None = MEASUREMENT.option(
        TEXT.shown_as("bf16|fp16|fp32"),
        "Number type of weights, activations and KV cache. [default: bf16 on a GPU, fp32 on a CPU]",
    )
    repeats: int = MEASUREMENT.option(whole(), "Timed runs of each point.", default=20)
    warm_up: int = MEASUREMENT.option(whole(minimum=0), "Runs of each point before them that do not count.", default=3)
    memory_bytes: float | None = MEASUREMENT.option(
        MEMORY, "Memory of the device to plan with, such as 24GiB. [default: the free memory]"
    )
    resume: bool = MEASUREMENT.switch("Go on with a profile that was interrupted.")
