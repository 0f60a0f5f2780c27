"""PokePicker Toolkit: descriptions of creatures, all the way to a published, checked LoRA adapter that names them.

A source's text becomes a draft, a row, tokens, an adapter, figures, a card, and a repository on a Hub.

The rooms; each imports only those above it:

core        what all rooms share: recipes, folders with manifests, names of files, errors, the Hub's client
cards       facts -> README.md with plots, so that what is published explains itself
model       a base and its adapter: find, load, render a chat, invent names, rank known names, merge
data        "Its tail burns with a blue flame." -> cleaned, its creature's name masked, split -> dataset folder
serving     adapters -> answers over HTTP, from a model that stays loaded
training    dataset folder + base -> adapter folder (QLoRA)
evaluation  adapter + dataset -> evaluation.json: which creature is it, and what would a new one be called?
hub         folders -> a Hub and back: push, publish, verify; `space` is a page to try it, `local` a Hub in a folder
run         all of it in plain calls: read this first
sweep       recipes and values -> a run of each, the best by its figures of validation
cli         `pkt`: the same verbs as commands
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.core.errors import ToolkitError as ToolkitError
    from toolkit.core.hub_client import use_hub as use_hub
    from toolkit.core.recipe import Recipe as Recipe
    from toolkit.core.recipe import load_recipe as load_recipe
    from toolkit.data.build import build_dataset as build_dataset
    from toolkit.data.validation import validate as validate
    from toolkit.evaluation.evaluate import evaluate as evaluate
    from toolkit.hub.base import import_base as import_base
    from toolkit.hub.publish import PublishOptions as PublishOptions
    from toolkit.hub.publish import publish as publish
    from toolkit.hub.publish import push_dataset as push_dataset
    from toolkit.hub.verify import verify as verify
    from toolkit.model.bulk import Question as Question
    from toolkit.model.bulk import answer_all as answer_all
    from toolkit.model.export import export as export
    from toolkit.model.inspect import inspect_adapter as inspect_adapter
    from toolkit.model.merge import merge as merge
    from toolkit.model.naming import identify as identify
    from toolkit.model.naming import name as name
    from toolkit.model.naming import open_adapter as open_adapter
    from toolkit.run import run_pipeline as run_pipeline
    from toolkit.serving.serve import serve as serve
    from toolkit.sweep import plan_trials as plan_trials
    from toolkit.sweep import run_sweep as run_sweep
    from toolkit.training.encoder import train_encoder as train_encoder
    from toolkit.training.train import train as train

__version__ = "0.7.0"
_EXPORTS = {
    "core.errors": ("ToolkitError",),
    "core.hub_client": ("use_hub",),
    "core.recipe": ("Recipe", "load_recipe"),
    "data.build": ("build_dataset",),
    "data.validation": ("validate",),
    "evaluation.evaluate": ("evaluate",),
    "hub.base": ("import_base",),
    "hub.publish": ("PublishOptions", "publish", "push_dataset"),
    "hub.verify": ("verify",),
    "model.bulk": ("Question", "answer_all"),
    "model.export": ("export",),
    "model.inspect": ("inspect_adapter",),
    "model.merge": ("merge",),
    "model.naming": ("identify", "name", "open_adapter"),
    "run": ("run_pipeline",),
    "serving.serve": ("serve",),
    "sweep": ("plan_trials", "run_sweep"),
    "training.encoder": ("train_encoder",),
    "training.train": ("train",),
}
_MODULES = {verb: module for module, verbs in _EXPORTS.items() for verb in verbs}
__all__ = sorted(_MODULES)


def __getattr__(verb: str) -> object:
    """Import a verb's room when it is first used: `import toolkit` alone loads nothing heavy."""
    if verb not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {verb!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[verb]}"), verb)
