"""Facts in, a README.md out: the cards of datasets, adapters, merged models and imported bases, plots and a preview.

`dataset` and `model` write the cards from `*_facts` and their plots through `templates`; `metadata` is their front
matter, `usage` the code and commands in them, `labels` their words; `escape` keeps foreign text harmless, and `page`
shows a card as HTML. The functions below load their modules at their first use, since a training needs them last.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.cards.dataset import render_dataset_card as render_dataset_card
    from toolkit.cards.model import card_differences as card_differences
    from toolkit.cards.model import render_base_card as render_base_card
    from toolkit.cards.model import render_gguf_card as render_gguf_card
    from toolkit.cards.model import render_merged_card as render_merged_card
    from toolkit.cards.model import render_model_card as render_model_card
    from toolkit.cards.model_plots import draw_plots as draw_plots
    from toolkit.cards.model_plots import sweep_plot as sweep_plot
    from toolkit.cards.page import write_preview as write_preview
    from toolkit.cards.templates import check_templates as check_templates
    from toolkit.cards.templates import with_templates as with_templates
    from toolkit.cards.usage import encoder_snippet as encoder_snippet
    from toolkit.cards.usage import new_names_snippet as new_names_snippet
    from toolkit.cards.usage import usage_snippet as usage_snippet

_EXPORTS = {
    "dataset": ("render_dataset_card",),
    "model": ("card_differences", "render_base_card", "render_gguf_card", "render_merged_card", "render_model_card"),
    "model_plots": ("draw_plots", "sweep_plot"),
    "page": ("write_preview",),
    "templates": ("check_templates", "with_templates"),
    "usage": ("encoder_snippet", "new_names_snippet", "usage_snippet"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
