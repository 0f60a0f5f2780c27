"""Whether a model's probabilities are numbers: weights that are broken, or far too large, give none.

Knows nothing of what the model is asked.
"""

from __future__ import annotations

from typing import Any

from toolkit.core.errors import InputError


def no_numbers() -> InputError:
    """The error for a model whose probabilities are no numbers."""
    return InputError(
        "The model's probabilities are no numbers (NaN): the weights of its adapter or base are broken.",
        "Train the adapter again or download it again.",
    )


class Watch:
    """Notices logits that have no probabilities while a model generates, as one of its logits processors.

    Such logits give way to zeros: drawing by them is an error on a CPU, and on a GPU one that nothing in the process
    survives. Others stay what they are. What was noticed is asked for at the end, so that no step waits for a GPU.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = temperature
        self._noticed: Any = None

    def __call__(self, _input_ids: Any, logits: Any) -> Any:
        """The logits of a step, `[names, vocabulary]`."""
        # The largest is NaN beside any NaN, and infinite where it is, where all are -inf, or once it is divided.
        broken = ~(logits.amax(-1, keepdim=True) / self._temperature).isfinite()
        self._noticed = broken.any() if self._noticed is None else self._noticed | broken.any()
        return logits.masked_fill(broken, 0.0)

    def check(self) -> None:
        """Raise InputError when there were logits without probabilities."""
        if self._noticed is not None and bool(self._noticed):
            raise no_numbers()
