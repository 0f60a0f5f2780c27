"""PokePicker Toolkit: descriptions of creatures, all the way to a published, checked LoRA adapter that names them.

One description walks through the rooms, each of which imports only those before it:

core        what all rooms share: recipes, folders with manifests, names of files, errors, the Hub's client
cards       facts -> README.md with plots, so that what is published explains itself
model       a base and its adapter: find, load, render a chat, invent names, rank known names, merge
data        "Its tail burns with a blue flame." -> cleaned, its creature's name masked, split -> dataset folder
training    dataset folder + base -> adapter folder (QLoRA)
evaluation  adapter + dataset -> evaluation.json: which creature is it, and what would a new one be called?
hub         folders -> a Hub and back: push, publish, verify; `space` is a page to try it, `local` a Hub in a folder
run         all of it in plain calls: read this first
cli         `pkt`: the same verbs as commands
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.core.errors import ToolkitError
    from toolkit.core.hub_client import use_hub
    from toolkit.core.recipe import Recipe, load_recipe
    from toolkit.data.build import build_dataset
    from toolkit.data.validation import validate
    from toolkit.evaluation.evaluate import evaluate
    from toolkit.hub.publish import PublishOptions, publish, push_dataset
    from toolkit.hub.verify import verify
    from toolkit.model.naming import identify, name, open_adapter
    from toolkit.run import run_pipeline
    from toolkit.training.train import train

__version__ = "0.1.0"
__all__ = [
    "PublishOptions",
    "Recipe",
    "ToolkitError",
    "build_dataset",
    "evaluate",
    "identify",
    "load_recipe",
    "name",
    "open_adapter",
    "publish",
    "push_dataset",
    "run_pipeline",
    "train",
    "use_hub",
    "validate",
    "verify",
]
_MODULES = {
    "PublishOptions": "hub.publish",
    "Recipe": "core.recipe",
    "ToolkitError": "core.errors",
    "build_dataset": "data.build",
    "evaluate": "evaluation.evaluate",
    "identify": "model.naming",
    "load_recipe": "core.recipe",
    "name": "model.naming",
    "open_adapter": "model.naming",
    "publish": "hub.publish",
    "push_dataset": "hub.publish",
    "run_pipeline": "run",
    "train": "training.train",
    "use_hub": "core.hub_client",
    "validate": "data.validation",
    "verify": "hub.verify",
}


def __getattr__(verb: str) -> object:
    """Import a verb's room when it is first used: `import toolkit` alone loads nothing heavy."""
    if verb not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {verb!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[verb]}"), verb)
