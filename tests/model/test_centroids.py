"""The state after a description, and the centroids that it is compared with."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from toolkit.core.errors import InputError
from toolkit.model import centroids


def write(folder, tensor, answers=("Mew", "Muk"), name=centroids.TENSOR):
    (folder / "answers.json").write_text(json.dumps(answers))
    save_file({name: tensor}, folder / "centroids.safetensors")


def test_scores_are_twenty_times_the_cosine_whatever_the_lengths_are():
    states, held = torch.tensor([[3.0, 4.0], [0.0, -2.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.1], [-3.0, -4.0]])
    expected = torch.tensor([[12.0, 16.0, -20.0], [0.0, -20.0, 16.0]])
    torch.testing.assert_close(centroids.scores(states, held), expected)
    torch.testing.assert_close(centroids.scores(states.bfloat16(), held), expected, atol=0.1, rtol=0)


def test_states_of_another_base_are_refused():
    with pytest.raises(InputError, match="has states of 3 numbers, and the base has 2"):
        centroids.scores(torch.ones(1, 2), torch.ones(4, 3))


def test_centroids_are_read_as_they_were_written_and_an_adapter_may_have_none(tmp_path):
    assert centroids.read_centroids(tmp_path) is None
    held = centroids.centroids_of(torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]]), ["Muk", "Mew", "Mew"])
    centroids.write_centroids(tmp_path, held)
    there = centroids.read_centroids(tmp_path)
    assert there.answers == ["Mew", "Muk"]
    assert torch.equal(there.vectors, held.vectors)
    torch.testing.assert_close(there.vectors, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_candidates_have_the_shares_of_the_answers_and_others_none():
    held = centroids.Centroids(["Mew", "Muk"], torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    found = held.scores(torch.tensor([[2.0, 0.0]]), ["Muk", "Abra", "Mew"])
    assert found.exp()[0].tolist() == pytest.approx([1 / (1 + math.e**8), 0, 1 / (1 + math.e**-8)])
    for strange in (None, torch.tensor([[float("nan"), 1.0]])):
        with pytest.raises(InputError, match="shows no state"):
            held.scores(strange, ["Mew"])


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        (torch.ones(3, 2), centroids.TENSOR),
        (torch.ones(2), centroids.TENSOR),
        (torch.tensor([[1.0, float("nan")], [1.0, 0.0]]), centroids.TENSOR),
        (torch.ones(2, 2), "others"),
    ],
)
def test_centroids_that_do_not_fit_the_answers_are_refused(tmp_path, tensor, name):
    write(tmp_path, tensor, name=name)
    with pytest.raises(InputError, match="does not hold a state for each of the 2 answers"):
        centroids.read_centroids(tmp_path)


def test_a_damaged_file_is_one_clear_line(tmp_path):
    (tmp_path / "centroids.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"centroids\.safetensors cannot be read"):
        centroids.read_centroids(tmp_path)
