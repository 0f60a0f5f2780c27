"""Sequences laid out as tries in rows: each node sees its own way up and nothing else."""

import pytest
import torch

from toolkit.model.trie import BLOCK, key_blocks, lay_out

SEQUENCES = [(5, 1), (5, 6), (5, 6, 1), (5, 6, 7, 1), (8,), (9, 6, 1)]


def spelt(rows, row, node):
    """The tokens of a node's ancestors and its own, by depth."""
    seen = [other for other, sees in enumerate(rows.visible[row, node].tolist()) if sees]
    return [rows.tokens[row, other].item() for other in sorted(seen, key=lambda other: rows.depths[row, other].item())]


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4, 64])
def test_each_token_is_asked_for_after_the_tokens_before_it(room):
    rows = lay_out(SEQUENCES, room)
    nodes = rows.tokens.shape[1]
    for row, (start, end) in enumerate(zip(rows.starts, rows.starts[1:], strict=False)):
        for index in range(start, end):
            sequence = SEQUENCES[index]
            for depth, flat in enumerate(rows.before[index].tolist()[: len(sequence) - 1]):
                assert flat // nodes == row
                assert spelt(rows, row, flat % nodes) == list(sequence[: depth + 1])


def test_sequences_that_share_a_beginning_share_nodes_and_the_last_token_needs_none():
    rows = lay_out([(5, 1), (5, 6, 1), (5, 6, 7, 1)], 64)
    assert rows.tokens.tolist() == [[5, 6, 7]]
    assert rows.before.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 2]]


@pytest.mark.parametrize("room", [0, 3, 10])
def test_a_row_has_no_more_nodes_than_room_unless_one_sequence_needs_them(room):
    sequences = sorted({(first, second, third, 1) for first in (5, 6) for second in (7, 8) for third in range(9)})
    rows = lay_out(sequences, room)
    assert rows.tokens.shape[1] == max(room, 3)
    assert (len(rows.starts) - 1 == len(sequences)) == (room < 4)


def test_what_is_not_to_be_shared_is_laid_out_for_each_sequence():
    rows = lay_out([(5, 6, 7, 1)] * 2, 64, shared=[1, 1])
    assert rows.tokens.tolist() == [[5, 6, 7, 6, 7]]
    assert rows.before.tolist() == [[0, 1, 2], [0, 3, 4]]


def test_nodes_that_pad_a_row_see_themselves_and_are_seen_by_no_other():
    rows = lay_out([(5, 6, 7, 1)], 64, multiple=8)
    assert rows.tokens.shape == (1, 8)
    assert torch.equal(rows.visible[0, 3:, 3:], torch.eye(5, dtype=torch.bool))
    assert not rows.visible[0, :3, 3:].any()
    assert not rows.visible[0, 3:, :3].any()


def test_a_block_has_the_keys_that_its_nodes_see_and_no_more_than_a_row():
    opening = tuple(range(40))
    rows = lay_out([(*opening, *[100 + number] * 30) for number in range(12)], 1000, multiple=BLOCK)
    nodes = rows.tokens.shape[1]
    index, mask = key_blocks(rows.visible, torch.float32)
    assert index.shape == (nodes // BLOCK, 4 * BLOCK)
    seen = torch.zeros(nodes // BLOCK, BLOCK, nodes, dtype=torch.bool)
    seen.scatter_(2, index[:, None].expand(-1, BLOCK, -1), mask[:, 0] == 0)
    assert torch.equal(seen.view(1, nodes, nodes), rows.visible)
    assert key_blocks(rows.visible[:, :BLOCK, :BLOCK], torch.float32)[0].shape == (1, BLOCK)
