"""The card of a dataset and its figures, from the folder's own files and the facts of its manifest."""

from toolkit.cards.dataset.render import render_dataset_card

__all__ = ["render_dataset_card"]
