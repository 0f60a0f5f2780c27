"""Sorted token sequences as tries, laid out in rows of equal length for a model to read: what they share is read once.

Those with the same beginning lie together. A row holds the trie of as many of them as it has room for. The last token
of a sequence needs no node: its probability comes from the node before it. Ranking reads candidates so, training its
examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NO_TOKEN = -1
# Nodes whose attention is computed together.
BLOCK = 32


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


def lay_out(
    sequences: Sequence[Sequence[int]],
    room: int,
    device: torch.device | str = "cpu",
    *,
    shared: Sequence[int] | None = None,
    multiple: int = 1,
) -> Rows:
    """The tries of sorted sequences, none of them empty.

    Args:
        sequences: Token ids.
        room: Nodes of a row; a sequence of more has a row of its own, and with room for none each one has.
        device: Where the tensors lie.
        shared: Of each sequence, how many of its first nodes others may share; all by default.
        multiple: Of so many nodes a row is padded to a multiple.
    """
    import torch

    most = shared or [len(sequence) for sequence in sequences]

    rows: list[_Row] = []
    starts: list[int] = []
    paths: list[list[int]] = []
    for index, sequence in enumerate(sequences):
        path: list[int] = []
        if paths:
            path = paths[-1][: min(shared_nodes(sequences[index - 1], sequence), *most[index - 1 : index + 1])]
        if not rows or len(rows[-1].tokens) + len(sequence) - 1 - len(path) > room:
            rows.append(_Row([], [], []))
            starts.append(index)
            path = []
        paths.append(rows[-1].add(sequence, path))
    longest, nodes = max(map(len, sequences)), max(1, *(len(row.tokens) for row in rows))
    nodes = math.ceil(nodes / multiple) * multiple
    above = torch.tensor([[*row.above, *range(len(row.above), nodes)] for row in rows], device=device)
    counts = torch.tensor([*starts, len(sequences)], device=device).diff()
    offsets = torch.arange(len(rows), device=device).repeat_interleave(counts, output_size=len(sequences)) * nodes
    return Rows(
        tokens=torch.tensor(_padded([row.tokens for row in rows], nodes, 0), device=device),
        depths=torch.tensor(_padded([row.depths for row in rows], nodes, 0), device=device),
        visible=_ways_up(above, longest - 1),
        sequences=torch.tensor(_padded(sequences, longest, NO_TOKEN), device=device),
        before=torch.tensor(_padded(paths, longest - 1, 0), dtype=torch.long, device=device) + offsets[:, None],
        starts=[*starts, len(sequences)],
    )


def shared_nodes(previous: Sequence[int], sequence: Sequence[int]) -> int:
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


def attention_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Term added to attention scores, `[rows, 1, nodes, seen]`.

    Args:
        visible: Which of them each node sees, `[rows, nodes, seen]`.
        dtype: Of the model's hidden states.
    """
    import torch

    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def key_blocks(visible: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each block of nodes of one row, what it sees at all: a few ancestors in place of the whole row.

    Args:
        visible: `[1, nodes, nodes]`, their number a multiple of `BLOCK`.
        dtype: Of the model's hidden states.

    Returns:
        The nodes that each block sees, `[blocks, keys]`, and the term added to its attention scores,
        `[blocks, 1, BLOCK, keys]`.
    """
    blocks = visible.view(-1, BLOCK, visible.shape[2])
    seen = blocks.any(1)
    keys = min(seen.shape[1], math.ceil(int(seen.sum(1).max()) / BLOCK) * BLOCK)
    # Those that a block sees come first, in their order; the rest fills the row up, unseen.
    index = (~seen).int().argsort(dim=1, stable=True)[:, :keys]
    return index, attention_mask(blocks.gather(2, index[:, None].expand(-1, BLOCK, -1)), dtype)


@cache
def attend_in_blocks() -> None:
    """Let the SDPA attention of transformers take `key_blocks` as an argument of the model's forward pass.

    PyTorch's attention computes all pairs of nodes and adds the mask: of a row of 16 examples a tenth of them count,
    and they are two fifths of a step on a CPU. Blocks that each see a few keys are plain matrix products, which take
    half the time of PyTorch's attention on the same blocks.
    """
    from torch.nn.functional import dropout as drop
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def forward(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        key_blocks: tuple[torch.Tensor, torch.Tensor] | None = None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **rest: Any,
    ) -> tuple[torch.Tensor, None]:
        if key_blocks is None or rest.get("position_bias") is not None:
            plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
            )
            return plain
        index, mask = key_blocks
        _, heads, nodes, size = query.shape
        blocks, keys, shared = nodes // BLOCK, index.shape[1], key.shape[1]

        def chosen(states: torch.Tensor) -> torch.Tensor:
            """`[blocks, key heads, keys, size]` of `[1, key heads, nodes, size]`."""
            found = states[0].transpose(0, 1).flatten(1).index_select(0, index.flatten())
            return found.view(blocks, keys, shared, -1).transpose(1, 2)

        # The queries of heads that share their keys stand below each other.
        queries = query[0].view(shared, heads // shared, blocks, BLOCK, size).permute(2, 0, 1, 3, 4)
        queries = queries.reshape(blocks, shared, -1, size) * (size**-0.5 if scaling is None else scaling)
        scores = (queries @ chosen(key).transpose(2, 3)).view(blocks, shared, -1, BLOCK, keys) + mask[:, :, None]
        weights = drop(scores.softmax(-1), dropout) if dropout else scores.softmax(-1)
        attended = (weights.view(blocks, shared, -1, keys) @ chosen(value)).view(blocks, heads, BLOCK, -1)
        return attended.transpose(1, 2).flatten(0, 1)[None], None

    AttentionInterface.register("sdpa", forward)


def sees_all(model: PreTrainedModel, length: int) -> bool:
    """Whether every layer sees a text of this many tokens from end to end, so that one mask suits all layers."""
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return all(window is None or length <= window for window in windows)
