"""How many examples go through the model at once, and what to do when they do not fit into memory.

The loss of a batch is divided by its supervised tokens as a whole, so its gradients are the same in pieces of any size.
A step that runs out of memory is taken again in smaller pieces: no step is lost and no checkpoint is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from toolkit.core import Note, size
from toolkit.core.errors import EnvironmentLacks, library_errors
from toolkit.core.recipe import TrainingSettings
from toolkit.model.centroids import states
from toolkit.model.chat import Example
from toolkit.model.loading import autocast, frozen_bytes, shard
from toolkit.model.memory import HEAD_ROOM, MEASURED, device_kind, free_cache, halving, lacks_memory
from toolkit.model.trie import shared_nodes
from toolkit.training import packing, processes
from toolkit.training.contrast import contrast_loss
from toolkit.training.lessons import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Runs the backward pass of a loss: untyped in torch.
Backward = Callable[[Any], object]

# Most activations on a CPU, and nodes of a row, whose mask grows with their square. Nothing is measured there, because
# the same inputs must give the same bytes on every machine.
CPU_BYTES, CPU_NODES = 2_500_000_000, 4096


class MicroBatch:
    """How much of a batch goes through the model at once; it shrinks when memory runs out.

    Attributes:
        size: Examples in one forward pass; divides the batch size.
        even: Sizes that leave no process more to read than it must.
        checkpointing: Whether activations are computed twice to save memory (gradient checkpointing).
    """

    def __init__(
        self,
        settings: TrainingSettings,
        lessons: Sequence[Sequence[Example]],
        token_bytes: int,
        note: Note,
        shard: bool = False,
    ) -> None:
        self.settings = settings
        self.shard = shard
        self.sizes = [size for size in range(1, settings.batch_size + 1) if settings.batch_size % size == 0]
        most = math.ceil(settings.batch_size / processes.world())
        self.even = [size for size in self.sizes if math.ceil(most / size) * size == most]
        self.size = min(_first_size(settings, examples, token_bytes, self.even) for examples in lessons)
        if self.size not in self.even:
            note(
                f"{processes.world()} processes share steps of {settings.batch_size} examples unevenly, {self.size} at "
                f"once: give `training.micro_batch_size={self.even[-1]}`."
            )
        self.checkpointing = settings.gradient_checkpointing == "on"
        self.note = note

    def prepare(self, model: PreTrainedModel) -> None:
        """Turn gradient checkpointing on and divide the base where asked for, and packing off where it is not exact.

        Raises:
            InputError: The base has no gradient checkpointing, or no layers to divide it by.
        """
        if self.checkpointing:
            turn_checkpointing_on(model)
        if self.shard:
            whole = frozen_bytes(model)
            shard(model)
            self.note(f"Each process holds {size(frozen_bytes(model))} of the base's {size(whole)}.")
        if len(self.sizes) > 1 and not packing.packs_exactly(model):
            self._one_at_a_time()

    def gradients(
        self,
        model: PreTrainedModel,
        batches: Sequence[Batch],
        backward: Backward,
        proxies: torch.nn.Parameter | None = None,
        drawn: str = "",
    ) -> dict[str, torch.Tensor]:
        """Add the gradients of each batch's mean loss times its weight, and return the losses without their weights.

        Losses are in nats per supervised token of their own batch. With `proxies`, whose gradients begin anew, answers
        are contrasted, and `contrast_loss` is in nats per example. Several processes share the pieces, and all of them
        end with the sum of all gradients and losses. `drawn` decides what dropout draws.

        Raises:
            EnvironmentLacks: Not even one example at a time fits.
        """
        contrast = None if proxies is None else (self.settings.contrast, proxies)
        take = partial(gradients_in_pieces, drawn=drawn, shared=self.shard)
        while (losses := take(model, batches, self.size, backward, contrast)) is None:
            _free(model)
            self.shrink(model)
        return losses

    def validation_loss(self, model: PreTrainedModel, examples: Sequence[Example]) -> float:
        """Mean loss of the examples, fewer at once where memory does not hold several."""
        most = 1 if self.sizes == [1] else packing.VALIDATION_BATCH
        batches = [examples[first : first + most] for first in range(0, len(examples), most)]
        work = partial(_summed_losses, model, processes.dealt(batches))
        own = work(most) if self.shard else halving(most, work)[0]
        return sum(processes.collected(own, len(batches))) / sum(len(example.answer_ids) for example in examples)

    def shrink(self, model: PreTrainedModel) -> None:
        """Take the next smaller size; after one example, turn gradient checkpointing on; after that, give up.

        Raises:
            EnvironmentLacks: Nothing is left to reduce.
        """
        if self.size > 1:
            before = self.size
            self.size = max(size for size in self.sizes if size <= before / 2)
            self.note(
                f"{before} examples at once did not fit into memory: {self.size} at once from here on, "
                "with the same result."
            )
        elif not self.checkpointing and self.settings.gradient_checkpointing == "auto":
            self.checkpointing = True
            turn_checkpointing_on(model)
            self.note("One example did not fit into memory: gradient checkpointing is on from here on.")
        else:
            first = "Choose a smaller base"
            if not self.checkpointing:
                first = 'Give `training.gradient_checkpointing="auto"`'
            elif self.settings.quantization == "none":
                first = 'Give `training.quantization="nf4"`'
            raise EnvironmentLacks(
                "There is not enough memory for one example at a time.",
                f"{first}, or lower `training.max_length` or `lora.r`.",
            )

    def measure(self, model: PreTrainedModel, longest_first: Sequence[Sequence[Example]], compute: str) -> None:
        """On a GPU that tells its memory and for `auto`, double the size while each lesson's longest examples fit."""
        if self.settings.micro_batch_size != "auto" or self.shard or device_kind() not in MEASURED:
            return
        while larger := [size for size in self.even if size >= 2 * self.size]:
            if not all(fits_with_room(model, examples[: larger[0]], compute) for examples in longest_first):
                return
            self.size = larger[0]

    def check_packing(self, model: PreTrainedModel, longest_first: Sequence[Sequence[Example]], compute: str) -> None:
        """Turn packing off where a lesson's longest examples and shortest, together, have other logits than alone."""
        for examples in longest_first:
            # One at a time too, several are validated at once.
            together = [*examples[: max(1, self.size - 1)], examples[-1]]
            if len(self.sizes) > 1 and not packing.packs_as_alone(model, together, compute):
                self._one_at_a_time()

    def _one_at_a_time(self) -> None:
        self.sizes, self.size = [1], 1
        self.note("The base does not keep packed sequences apart: one example goes through it at a time.")


def _first_size(settings: TrainingSettings, examples: Sequence[Example], token_bytes: int, sizes: Sequence[int]) -> int:
    """The recipe's size; for `auto` one example on a GPU that is measured next, and elsewhere a fixed rule.

    `token_bytes` is what a token keeps for the backward pass.
    """
    if settings.micro_batch_size != "auto":
        return settings.micro_batch_size
    if device_kind() in MEASURED:
        return 1
    sequences = [example.input_ids for example in examples]
    # What the first and the last in order share, all share.
    opening = shared_nodes(min(sequences), max(sequences))
    own = max(map(len, sequences)) - opening
    room = min(CPU_NODES, CPU_BYTES // token_bytes)
    return max(size for size in sizes if size == 1 or opening + size * own <= room)


def _summed_losses(model: PreTrainedModel, batches: Sequence[Sequence[Example]], at_once: int) -> list[float]:
    return [packing.summed_loss(model, batch, at_once) for batch in batches]


def fits_with_room(model: PreTrainedModel, examples: Sequence[Example], compute: str) -> bool:
    """Whether the gradients of these examples at once, and the optimiser's state, leave head room on all GPUs."""
    import torch

    gpu = torch.get_device_module(device_kind())
    gpu.reset_peak_memory_stats()
    with torch.random.fork_rng(), autocast(compute):
        whole = Batch("loss", 1.0, examples)
        fits = gradients_in_pieces(model, [whole], len(examples), lambda loss: loss.backward()) is not None
    _free(model)
    # AdamW holds two numbers of four bytes for each trainable one, from the first step on.
    moments = 8 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = gpu.mem_get_info()[1]
    return not processes.any_of(not fits or gpu.max_memory_reserved() + moments > HEAD_ROOM * total)


def gradients_in_pieces(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    size: int,
    backward: Backward,
    contrast: tuple[float, torch.nn.Parameter] | None = None,
    drawn: str = "",
    shared: bool = False,
) -> dict[str, torch.Tensor] | None:
    """The losses of batches whose gradients were added, `size` examples at a time; None where memory ran out."""
    import torch

    pieces = [(batch, start) for batch in batches for start in range(0, len(batch.examples), size)]
    supervised = {batch.column: sum(len(example.answer_ids) for example in batch.examples) for batch in batches}
    columns = [*supervised, *(["contrast_loss"] if contrast else [])]
    losses: dict[str, Any] = dict.fromkeys(columns, torch.zeros((), device=model.device))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if contrast is not None:
        contrast[1].grad = None
        trained.append(contrast[1])
    vectors: list[torch.Tensor] = []
    fits = True
    try:
        for batch, start in processes.dealt(pieces):
            piece = batch.examples[start : start + size]
            # Dropout draws the same in whichever process, and when the step is taken again.
            with torch.random.fork_rng():
                torch.manual_seed(Random(f"{drawn}/{batch.column}/{start}").getrandbits(63))
                inputs, answers = packing.collate(piece, model)
                with states(model if contrast else None) as seen:
                    logits = model(**inputs).logits
                loss = packing.answer_loss(logits, answers, supervised[batch.column])
                losses[batch.column] = losses[batch.column] + loss.detach()
                loss = batch.weight * loss
                if contrast and batch.labels:
                    weight, proxies = contrast
                    apart = contrast_loss(seen[0], piece, batch.labels[start : start + size], proxies)
                    apart = apart / len(batch.examples)
                    losses["contrast_loss"] = losses["contrast_loss"] + apart.detach()
                    loss = loss + weight * apart
                backward(loss)
            if processes.world() > 1:
                vectors.append(_taken(trained, losses))
                losses = dict.fromkeys(columns, torch.zeros((), device=model.device))
    except (RuntimeError, MemoryError) as error:
        # The others wait for a layer, and could not begin again.
        if shared or not lacks_memory(error):
            raise
        fits = False
    if processes.any_of(not fits):
        return None
    if processes.world() > 1:
        total = processes.added_up(vectors, len(pieces))
        *gradients, sums = torch.split(total, [*map(torch.numel, trained), len(columns)])
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        losses = dict(zip(columns, sums, strict=True))
    return losses


def _taken(trained: Sequence[torch.nn.Parameter], losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The gradients and losses of a piece as one vector; the parameters are left without gradients."""
    import torch

    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
    for parameter in trained:
        parameter.grad = None
    return torch.cat([*(each.float().flatten() for each in gradients), torch.stack([*losses.values()])])


def turn_checkpointing_on(model: PreTrainedModel) -> None:
    """Gradient checkpointing (Chen et al. 2016): compute a layer's activations again in the backward pass.

    Raises:
        InputError: The base's family has none.
    """
    remedy = 'Give `training.gradient_checkpointing="off"`, or choose another base.'
    with library_errors("The base cannot save memory by gradient checkpointing", remedy):
        model.activation_checkpointing_enable()


def _free(model: PreTrainedModel) -> None:
    """Release what a failed or trial pass holds."""
    model.zero_grad(set_to_none=True)
    free_cache()
