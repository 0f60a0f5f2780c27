"""Memory and disk: what a base needs, what this machine has, and one clear error when either runs out.

What a base needs is an estimate from its configuration, made before its weights are downloaded.
"""

from __future__ import annotations

import errno
import gc
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
from safetensors import SafetensorError

from toolkit.core import size
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.folder import unwritable
from toolkit.core.recipe import LoraSettings, Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

T = TypeVar("T")

# Limits that a container puts on its memory, by control groups of version 2 and 1.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# cuBLAS and CUDA word it differently.
NO_MEMORY = re.compile(r"(can't|cannot) allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
# GPUs of which torch tells how much of their memory was in use.
MEASURED = ("cuda", "xpu")
# numpy, which writes GGUF files, has no word for it.
FULL_DISK = re.compile(r"No space left|file write failed|PytorchStreamWriter failed|\d+ requested and \d+ written")

# NF4 with double quantisation (Dettmers et al. 2023, section 3): 4 bits, 8 for each 64 weights, 32 for each 64 x 256.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
# Kept for the backward pass, a token and a layer, for each input and output of a projection with LoRA and dropout:
# these and the next by rehearsal (`benchmarks/rehearsal.py`), which a test compares with `train_bytes`.
ACTIVATION_BYTES = {"float32": 8, "bfloat16": 4, "float16": 4}
# And so many more on a base in 4 bits, whose hidden states are in float32.
NF4_ACTIVATIONS = 1
# With DoRA, which keeps results before and after its scaling, so many times that.
DORA_ACTIVATIONS = 1.5
# Families that join several projections into one (Phi-3, GLM-4).
JOINED = {"qkv_proj": {"q_proj", "k_proj", "v_proj"}, "gate_up_proj": {"gate_proj", "up_proj"}}
TOWERS = r".*\b(vision|audio)\w*\..*"
EMBEDDINGS = {"embed_tokens", "lm_head"}
# Tokens of a usual row: the embedded corpus has 60 to 140 in Gemma's vocabulary.
TYPICAL_TOKENS = 130
# Of them, those that it does not share with others that are read at once.
OWN_TOKENS = 63
# Share of a GPU's memory that may be in use after the probe; training needs a little more than the probe does.
HEAD_ROOM = 0.9
# Share of the memory that an unquantised base may take to be trained: the system, and several longer rows, need some.
UNQUANTISED_SHARE = 0.5
# Python, torch and the libraries, before a base is loaded; on a GPU, what CUDA takes for itself.
PROCESS_BYTES = 600_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes: name of the GPU (None for a CPU), bytes of memory, torch dtype to compute in, `device_kind`."""

    gpu: str | None
    memory: int
    compute: str
    kind: str


def device_kind() -> str:
    """What torch computes on: `cuda` (AMD's GPUs too), `xpu` (Intel's), `mps` (Apple's), or else `cpu`."""
    import torch

    return next((kind for kind in ("cuda", "xpu", "mps") if torch.get_device_module(kind).is_available()), "cpu")


def this_machine(compute: str = "auto") -> Machine:
    """The GPU where there is one, else the CPU, computing in this torch dtype or the one that suits it."""
    import torch

    compute, kind = compute_dtype() if compute == "auto" else compute, device_kind()
    if kind == "cpu":
        # Processes that train together hold the base each.
        return Machine(None, main_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), compute, kind)
    if kind == "mps":
        # A part of the machine's memory, which a GPU of Apple's shares.
        return Machine(torch.backends.mps.get_name(), torch.mps.recommended_max_memory(), compute, kind)
    module = torch.get_device_module(kind)
    return Machine(module.get_device_name(), module.get_device_properties(0).total_memory, compute, kind)


def compute_dtype() -> str:
    """Name of the torch dtype to compute in: bf16 where the GPU has it natively, fp16 on older GPUs, fp32 on a CPU.

    On Apple's GPUs fp32 too: which of them and which macOS have bf16 was not tried.
    """
    import torch

    kind = device_kind()
    if kind in ("cpu", "mps"):
        return "float32"
    native = torch.xpu.is_bf16_supported() if kind == "xpu" else torch.cuda.get_device_capability() >= (8, 0)
    return "bfloat16" if native else "float16"


def main_memory() -> int:
    """Bytes of memory that processes may take together: the machine's, or the limit of its container."""
    total = int(psutil.virtual_memory().total)
    limits = [path.read_text(encoding="ascii").strip() for path in MEMORY_LIMITS if path.is_file()]
    return min(total, *(int(limit) for limit in limits if limit.isdigit()), total)


def free_disk(folder: Path) -> int:
    """Bytes that can still be written into a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def hardware() -> dict[str, str | int | None]:
    """The device for a manifest: `device`, `name`, `cores`."""
    machine = this_machine()
    if machine.gpu:
        return {"device": machine.kind, "name": machine.gpu, "cores": os.cpu_count()}
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)", info.read_text(encoding="utf-8") if info.is_file() else "", re.M)
    name = named[1].strip() if named else platform.processor() or platform.machine()
    return {"device": "cpu", "name": name, "cores": os.cpu_count()}


def drawing_machine() -> dict[str, str]:
    """What decides random numbers beside the seed: samples are the same only where this is the same."""
    import torch

    return {"device": device_kind(), "torch": torch.__version__.partition("+")[0]}


def peak_memory_bytes() -> int:
    """Largest memory in use so far: of a GPU with memory of its own, else the process's resident set."""
    import torch

    if (kind := device_kind()) in MEASURED:
        return int(torch.get_device_module(kind).max_memory_allocated())
    try:
        import resource
    except ImportError:
        # Windows has its own figure of it.
        return int(psutil.Process().memory_info().peak_wset)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# What a base needs.


@dataclass(frozen=True, slots=True)
class BaseSize:
    """Size of a base.

    Attributes:
        linear: Parameters of the linear layers, which NF4 quantises.
        other: All other parameters: embeddings, head, norms.
        shapes: `(inputs, outputs)` of the linear layers, by their path in the model.
        modules: Parameters of all modules that have some, by path.
        head: Parameters of the output embeddings.
        tied: Whether embeddings and head are one matrix.
        hidden: Size of the hidden states.
        layers: Number of layers.
    """

    linear: int
    other: int
    shapes: Mapping[str, tuple[int, int]]
    modules: Mapping[str, int]
    head: int
    tied: bool
    hidden: int
    layers: int

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear + self.other


def size_of(config: PretrainedConfig) -> BaseSize:
    """Size of the causal language model that a configuration describes, from the model itself built without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = {path: each for path, each in model.named_modules() if isinstance(each, torch.nn.Linear) and each != head}
    shapes = {path: (layer.in_features, layer.out_features) for path, layer in layers.items()}
    linear = sum(layer.weight.numel() for layer in layers.values())
    total, text = sum(parameter.numel() for parameter in model.parameters()), config.get_text_config()
    tied = bool(getattr(text, "tie_word_embeddings", False))
    vocabulary = sum(parameter.numel() for parameter in head.parameters()) if head else 0
    return BaseSize(
        linear, total - linear, shapes, sizes(model), vocabulary, tied, text.hidden_size, text.num_hidden_layers
    )


def sizes(model: torch.nn.Module) -> dict[str, int]:
    """Parameters of each module that has some, by its path in the model."""
    counts = {path: sum(each.numel() for each in module.parameters()) for path, module in model.named_modules()}
    return {path: count for path, count in counts.items() if path and count}


def paths_of(names: Collection[str], paths: Collection[str]) -> list[str]:
    """The paths that end with one of the names, whole parts compared, outside of the towers for pictures and sound."""
    ends = tuple(f".{name}" for name in names)
    return [path for path in paths if f".{path}".endswith(ends) and not re.fullmatch(TOWERS, path)]


def target_names(settings: LoraSettings) -> list[str]:
    """Names of the modules that get LoRA, those that join several of them included."""
    wanted = settings.target_modules
    return [*wanted, *(name for name, parts in JOINED.items() if parts <= set(wanted) and name not in wanted)]


def modules_trained_whole(settings: LoraSettings, modules: Mapping[str, int], quantised: Collection[str]) -> list[str]:
    """Paths of the modules that `lora.modules_to_save` names, among those of the base, some of which are in 4 bits.

    Raises:
        InputError: A name that the base does not have, or a module that is in 4 bits, has LoRA, or holds another one.
    """
    names = settings.modules_to_save or ()
    chosen, lora = paths_of(names, modules), paths_of(target_names(settings), modules)
    known = sorted({path.rpartition(".")[2] for path in modules})
    for name in names:
        if not paths_of([name], chosen):
            raise InputError(
                f"`lora.modules_to_save` names {name}, and the base has no module with weights of that name.",
                f"Choose among its modules: {', '.join(each for each in known if not each.isdecimal())}.",
            )
    for path in chosen:
        for inside in (other for other in modules if f"{other}.".startswith(f"{path}.")):
            if inside in quantised or inside in lora or (inside in chosen and inside != path):
                raise InputError(
                    f"`lora.modules_to_save` names {path}, and {inside} is in 4 bits or trained another way already.",
                    'Name each module once, and give `training.quantization="none"` to train it whole.',
                )
    return chosen


def load_bytes(base: BaseSize, quantization: str, compute: str) -> int:
    """Memory that holds the base and the process around it: linear layers in NF4, everything else in `compute`."""
    held = NF4_BYTES if quantization == "nf4" else WIDTH[compute]
    return round(PROCESS_BYTES + base.linear * held + base.other * WIDTH[compute])


def train_bytes(base: BaseSize, recipe: Recipe, compute: str, quantization: str, nodes: int = TYPICAL_TOKENS) -> int:
    """Least memory of a training step: base, what is trained with gradients and optimizer, activations of the nodes.

    With gradient checkpointing, which `auto` falls back to, each layer keeps its input and one layer is kept whole.
    `nodes` are tokens of the row that the model reads at once; those of a usual row alone by default.
    """
    training, lora = recipe.training, recipe.lora
    nf4 = quantization == "nf4"
    # `prepare_model_for_kbit_training` holds in float32 what is not quantised.
    widened = 4 - WIDTH[compute] if nf4 else 0
    targets = [base.shapes[path] for path in paths_of(target_names(lora), base.shapes)]
    whole = modules_trained_whole(lora, base.modules, base.shapes if nf4 else ())
    tied = paths_of(EMBEDDINGS, whole) if base.tied else ()
    copies = {"tied" if path in tied else path: base.modules[path] for path in whole}
    trained = lora.r * sum(map(sum, targets)) + sum(copies.values())
    optimizer = 2 if training.optimizer == "paged_adamw_8bit" else 8
    kept, dense = nodes * activation_bytes(base, compute, nf4), 0
    if lora.use_dora:
        trained += sum(outputs for _, outputs in targets)
        # Each weight is made anew in float32 for its length, and with dropout kept for the backward pass.
        again = lora.dropout > 0 and (nf4 or compute != "float32")
        kept = round(DORA_ACTIVATIONS * kept) + again * sum(4 * inputs * outputs for inputs, outputs in targets)
        dense = max((4 * inputs * (inputs + 4 * outputs) for inputs, outputs in targets), default=0)
    if training.gradient_checkpointing != "off":
        kept = kept // base.layers + nodes * base.layers * base.hidden * 4
    # The head in float32 is computed with in `compute`, and that copy is kept for the backward pass.
    copied = base.head * WIDTH[compute] if widened else 0
    held = load_bytes(base, quantization, compute) + base.other * widened + copied
    return held + trained * (8 + optimizer) + kept + dense


def activation_bytes(base: BaseSize, compute: str, nf4: bool = False) -> int:
    """Memory that one token keeps for the backward pass, without gradient checkpointing."""
    more = NF4_ACTIVATIONS if nf4 and compute != "float32" else 0
    return (ACTIVATION_BYTES[compute] + more) * sum(map(sum, base.shapes.values()))


def nodes_of(rows: int) -> int:
    """Tokens that the model reads for so many usual rows at once, of which they share the opening."""
    return TYPICAL_TOKENS + (rows - 1) * OWN_TOKENS


def rows_that_fit(base: BaseSize, recipe: Recipe, machine: Machine, quantization: str) -> tuple[int, int]:
    """How many usual rows the recipe reads at once without gradient checkpointing, in nine tenths of a memory.

    Returns:
        Their number, and the memory that they take; one row, with gradient checkpointing, where none fits otherwise.
    """
    settings = recipe.training
    plain = recipe.model_copy(update={"training": settings.model_copy(update={"gradient_checkpointing": "off"})})
    sizes = [n for n in range(settings.batch_size, 0, -1) if settings.batch_size % n == 0]
    for rows in sizes if settings.micro_batch_size == "auto" else [settings.micro_batch_size]:
        needed = train_bytes(base, plain, machine.compute, quantization, nodes_of(rows))
        if needed <= HEAD_ROOM * machine.memory:
            return rows, needed
    return 1, train_bytes(base, recipe, machine.compute, quantization)


def chosen_quantization(base: BaseSize, recipe: Recipe, machine: Machine) -> str:
    """How the recipe holds a base: for `auto` unquantised, unless training that takes more than half of the memory.

    NF4 makes a step slower, by 15 to 20 % on a CPU.
    """
    asked = recipe.training.quantization
    if asked != "auto":
        return asked
    needed = train_bytes(base, recipe, machine.compute, "none")
    return "none" if needed <= UNQUANTISED_SHARE * machine.memory else "nf4"


def check_disk(what: str, needed: int, folder: Path, remedy: str) -> None:
    """Raise EnvironmentLacks where so many bytes do not fit into a folder."""
    free = free_disk(folder)
    if needed > free:
        raise EnvironmentLacks(f"{what} takes {size(needed)}, and {folder} has {size(free)} free.", remedy)


def check_memory(base: str, needs: BaseSize, machine: Machine, quantization: str, recipe: Recipe | None = None) -> None:
    """Raise EnvironmentLacks where the machine's whole memory cannot load the base, or train it by the recipe."""
    held = "in NF4" if quantization == "nf4" else f"in {machine.compute}"
    needed = {held: load_bytes(needs, quantization, machine.compute)}
    if recipe is not None:
        needed["to be trained"] = train_bytes(needs, recipe, machine.compute, quantization)
    owner = f"the GPU {machine.gpu}" if machine.gpu else "this machine"
    for purpose, count in needed.items():
        if count > machine.memory:
            raise EnvironmentLacks(
                f"The base {base} needs about {size(count)} of memory {purpose}, and {owner} has "
                f"{size(machine.memory)}.",
                "Choose a smaller `base`, use a machine with more, or try `pkt run demo`.",
            )


# When it runs out.


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside the block, the machine's or the GPU's, into one EnvironmentLacks."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        raise EnvironmentLacks(
            "There is not enough memory.",
            'Close other programs, hold the base in 4 bits (`quantization="nf4"`), or choose a smaller one.',
        ) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the machine's or the GPU's.

    Beside its own class, torch raises plain RuntimeErrors: on a CPU, and from the libraries of a GPU.
    """
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or NO_MEMORY.search(str(error)) is not None


def free_cache() -> None:
    """Give back memory that nothing holds any more."""
    import torch

    gc.collect()
    if (kind := device_kind()) != "cpu":
        torch.get_device_module(kind).empty_cache()


def halving(most: int, work: Callable[[int], T]) -> tuple[T, int]:
    """The result of `work(most)` and the size that it took; half the size each time the memory runs out, down to 1."""
    while True:
        try:
            return work(most), most
        except (RuntimeError, MemoryError) as error:
            if most == 1 or not lacks_memory(error):
                raise
        # Outside the `except`, whose error holds on to what did not fit.
        free_cache()
        most //= 2


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a disk that is full inside the block, which libraries wrap in errors of their own, into one clear error.

    Raises:
        EnvironmentLacks: The disk is full.
        InputError: The folder cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if FULL_DISK.search(str(error)):
            raise unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        if isinstance(error, OSError):
            raise unwritable(folder, error) from error
        raise
