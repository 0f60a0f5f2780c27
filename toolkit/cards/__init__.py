"""Facts in, a README.md out: the cards of a dataset, an adapter and a merged model, their plots and their preview.

`dataset` and `model` write the cards from `*_facts` and `*_plots` through `templates`; `metadata` is their front
matter, `usage` the code and commands in them, `labels` their words; `escape` keeps foreign text harmless, and `page`
shows a card as HTML. The functions below load their modules at their first use, since a training needs them last.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.cards.dataset import render_dataset_card
    from toolkit.cards.model import card_differences, render_merged_card, render_model_card
    from toolkit.cards.model_plots import draw_plots
    from toolkit.cards.page import write_preview
    from toolkit.cards.templates import check_templates, with_templates
    from toolkit.cards.usage import usage_snippet

_MODULES = {
    "card_differences": "model",
    "check_templates": "templates",
    "draw_plots": "model_plots",
    "render_dataset_card": "dataset",
    "render_merged_card": "model",
    "render_model_card": "model",
    "usage_snippet": "usage",
    "with_templates": "templates",
    "write_preview": "page",
}
__all__ = [
    "card_differences",
    "check_templates",
    "draw_plots",
    "render_dataset_card",
    "render_merged_card",
    "render_model_card",
    "usage_snippet",
    "with_templates",
    "write_preview",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
