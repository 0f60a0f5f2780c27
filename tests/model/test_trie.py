"""Sequences laid out as tries in rows: each node sees its own way up and nothing else."""

import pytest

from toolkit.model.trie import lay_out

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
