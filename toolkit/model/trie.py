"""Sorted token sequences as tries, laid out in rows of equal length for a model to read.

Those with the same beginning lie together. A row holds the trie of as many of them as it has room for. The last token
of a sequence needs no node: its probability comes from the node before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """Tries of sorted sequences as tensors, padded to one number of nodes a row.

    Attributes:
        tokens: Of each node, `[rows, nodes]`; 0 where a row is padded.
        depths: Of each node, 0 for a first token, `[rows, nodes]`.
        visible: Whether a node (second index) sees another (third): itself and its ancestors, `[rows, nodes, nodes]`.
        sequences: The tokens of each sequence, `[sequences, longest]`, with `NO_TOKEN` behind.
        before: The node before each token but the first, counted through all rows, `[sequences, longest - 1]`.
        starts: Row `r` holds the sequences from `starts[r]` up to `starts[r + 1]`.
    """

    tokens: torch.Tensor
    depths: torch.Tensor
    visible: torch.Tensor
    sequences: torch.Tensor
    before: torch.Tensor
    starts: list[int]


@dataclass(slots=True)
class _Row:
    """The trie of one row, by node: tokens, the node above (itself for a first token), depths."""

    tokens: list[int]
    above: list[int]
    depths: list[int]

    def add(self, sequence: Sequence[int], path: list[int]) -> list[int]:
        """Make the nodes that a sequence lacks below a path; returns the whole path."""
        path = path.copy()
        for depth in range(len(path), len(sequence) - 1):
            node = len(self.tokens)
            self.tokens.append(sequence[depth])
            self.above.append(path[-1] if path else node)
            self.depths.append(depth)
            path.append(node)
        return path


def lay_out(sequences: Sequence[Sequence[int]], room: int, device: torch.device | str = "cpu") -> Rows:
    """The tries of distinct, sorted sequences, none of them empty.

    Args:
        sequences: Token ids.
        room: Nodes of a row; a sequence of more has a row of its own, and with room for none each one has.
        device: Where the tensors lie.
    """
    import torch

    rows: list[_Row] = []
    starts: list[int] = []
    paths: list[list[int]] = []
    for index, sequence in enumerate(sequences):
        path = paths[-1][: _shared(sequences[index - 1], sequence)] if paths else []
        if not rows or len(rows[-1].tokens) + len(sequence) - 1 - len(path) > room:
            rows.append(_Row([], [], []))
            starts.append(index)
            path = []
        paths.append(rows[-1].add(sequence, path))
    longest, nodes = max(map(len, sequences)), max(1, *(len(row.tokens) for row in rows))
    above = torch.tensor([[*row.above, *range(len(row.above), nodes)] for row in rows], device=device)
    counts = torch.tensor([*starts, len(sequences)], device=device).diff()
    offsets = torch.arange(len(rows), device=device).repeat_interleave(counts) * nodes
    return Rows(
        tokens=torch.tensor(_padded([row.tokens for row in rows], nodes, 0), device=device),
        depths=torch.tensor(_padded([row.depths for row in rows], nodes, 0), device=device),
        visible=_ways_up(above, longest - 1),
        sequences=torch.tensor(_padded(sequences, longest, NO_TOKEN), device=device),
        before=torch.tensor(_padded(paths, longest - 1, 0), dtype=torch.long, device=device) + offsets[:, None],
        starts=[*starts, len(sequences)],
    )


def _shared(previous: Sequence[int], sequence: Sequence[int]) -> int:
    """How many nodes of the sequence before are nodes of this one too."""
    most = min(len(previous), len(sequence)) - 1
    return next((depth for depth in range(most) if previous[depth] != sequence[depth]), most)


def _padded(rows: Sequence[Sequence[int]], length: int, filling: int) -> list[list[int]]:
    return [[*row, *[filling] * (length - len(row))] for row in rows]


def _ways_up(above: torch.Tensor, depth: int) -> torch.Tensor:
    """`[rows, nodes, nodes]`: which nodes a node meets on its way up, itself included."""
    import torch

    rows, nodes = above.shape
    met = torch.eye(nodes, dtype=torch.bool, device=above.device).repeat(rows, 1, 1)
    reached = above
    for _ in range(depth - 1):
        met.scatter_(2, reached[..., None], True)
        reached = above.gather(1, reached)
    return met
