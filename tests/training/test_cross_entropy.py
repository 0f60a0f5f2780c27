"""The loss over a large vocabulary is PyTorch's own, in value and gradient, with no second copy of the logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from toolkit.training import loss as ours


def both_ways(kind, *, capped=False, rows=37, words=501):
    """Loss and gradient of a head's weights, by PyTorch's cross-entropy and by ours."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 16, generator=generator).to(kind)
    targets = torch.randint(0, words, (rows,), generator=generator)
    initial = torch.randn(words, 16, generator=generator).to(kind)

    def of(loss):
        weights = initial.clone().requires_grad_()
        logits = hidden @ weights.T
        total = loss(torch.tanh(logits / 3) * 3 if capped else logits, targets) / rows
        total.backward()
        return total.detach(), weights.grad

    return of(lambda logits, right: cross_entropy(logits.float(), right, reduction="sum")), of(
        ours.summed_cross_entropy
    )


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("at_once", [1, 501 * 5, 2**20])
def test_loss_and_gradient_are_those_of_pytorch(monkeypatch, at_once, capped):
    monkeypatch.setattr(ours, "AT_ONCE", at_once)
    (loss, gradient), (our_loss, our_gradient) = both_ways(torch.float32, capped=capped)
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_in_half_precision_too_the_loss_is_computed_in_float32(kind):
    (loss, gradient), (our_loss, our_gradient) = both_ways(kind)
    assert our_loss.dtype == torch.float32
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_gradient, gradient, rtol=2e-2, atol=1e-4)


def test_logits_that_would_overflow_have_a_finite_loss():
    logits = torch.tensor([[1e30, -1e30, 0.0]], requires_grad=True)
    loss = ours.summed_cross_entropy(logits * 1.0, torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_gradient_lies_where_the_logits_were():
    leaf = torch.randn(4, 9, requires_grad=True)
    logits = leaf * 1.0
    kept = []
    logits.register_hook(kept.append)
    place = logits.data_ptr()
    ours.summed_cross_entropy(logits, torch.tensor([1, 2, 3, 4])).backward()
    assert kept[0].data_ptr() == place


def test_logits_that_another_step_still_needs_are_not_overwritten_in_silence():
    leaf = torch.randn(4, 9, requires_grad=True)
    logits = leaf.exp()  # Its own gradient is computed from its output.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ours.summed_cross_entropy(logits, torch.tensor([1, 2, 3, 4])).backward()
