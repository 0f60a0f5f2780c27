"""A recipe: all settings of a run with their defaults, from a shipped name, a TOML file or a manifest, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from toolkit.core.errors import InputError, nearest
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import MAX_LENGTH

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Section(BaseModel):
    """A table of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceSettings(Section):
    """One source of descriptions, and how to read it; the embedded corpus needs its name alone."""

    name: Literal["corpus", "pokeapi", "hub", "table"] = Field("corpus", description="Where descriptions come from.")
    location: str | None = Field(
        None, description="Folder or URL (pokeapi), file or pattern (table), Hub id or id:config (hub)."
    )
    revision: str | None = Field(None, description="Revision of the source (pokeapi, hub).")
    description_column: str | None = Field(None, description="Column of the descriptions (table, hub).")
    name_column: str | None = Field(None, description="Column of the names (table, hub).")
    name_language: Literal["en", "ko"] | None = Field(None, description="Language of the names. Default: detected.")
    family_column: str | None = Field(None, description="Column with one value per family (table, hub).")
    encoding: str | None = Field(None, description="Text encoding of a table, such as cp949. Default: detected.")


class DatasetSettings(Section):
    """How descriptions become chat rows and splits."""

    sources: list[SourceSettings] = Field(default_factory=lambda: [SourceSettings()], min_length=1)
    description_language: str = Field("en", description="Descriptions to keep: en, ko or en,ko.")
    answer: Literal["en", "ko", "both"] = Field("en", description="Language of the names to answer with.")
    mask: str = Field(
        "this Pokémon", min_length=1, description="Text in place of the creature's own name, such as 'this dog'."
    )
    other_mask: str | None = Field(
        None, min_length=1, description="Text in place of another creature's name. Default: `mask` with `another`."
    )
    korean_mask: str = Field("이 포켓몬", min_length=1, description="`mask` in Korean descriptions.")
    korean_other_mask: str | None = Field(None, min_length=1, description="`other_mask` in Korean descriptions.")
    request: str | None = Field(
        None, min_length=1, description="The user's request. Default: for a Pokémon-style name, in Korean."
    )
    request_variants: int = Field(
        1, ge=1, description="Paraphrases to draw the Korean request from. 1: always the same."
    )
    system: str | None = Field(None, min_length=1, description="A system turn before every conversation.")
    min_characters: int = Field(20, ge=1, description="Shorter descriptions are dropped.")
    max_characters: int = Field(1200, ge=1, description="Longer descriptions are dropped.")
    validation_size: float = Field(0.1, ge=0, lt=1, description="Share of known creatures' texts in `validation`.")
    test_size: float = Field(0.15, ge=0, lt=1, description="Share of known creatures' texts in `test`.")
    unseen_size: float = Field(0.1, ge=0, lt=1, description="Share of the families held out whole, in `unseen`.")
    near_duplicate: float = Field(0.7, gt=0, le=1, description="MinHash similarity at which two texts count as one.")

    @model_validator(mode="after")
    def _one_request(self) -> Self:
        if self.request is not None and self.request_variants > 1:
            raise ValueError(
                "request and request_variants are both given, and the variants are of the toolkit's own request"
            )
        return self

    def mask_of_others(self, language: str) -> str:
        """What stands in for other creatures' names in descriptions of a language: `this dog` gives `another dog`."""
        own, other = (self.korean_mask, self.korean_other_mask) if language == "ko" else (self.mask, self.other_mask)
        if other is not None:
            return other
        first, replacement = ("이 ", "다른 ") if language == "ko" else ("this ", "another ")
        return f"{replacement}{own.removeprefix(first)}" if own.lower().startswith(first) else own


class LoraSettings(Section):
    """The adapter (LoRA, Hu et al. 2021). The names are peft's, without their `lora_`."""

    r: int = Field(16, ge=1, description="Rank of the adapter.")
    alpha: float = Field(
        32,
        gt=0,
        le=1e6,
        description="The adapter's output is scaled by alpha / r, with `use_rslora` by alpha / sqrt(r).",
    )
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout of the adapter's input in training.")
    target_modules: list[str] = Field(
        default_factory=lambda: list(PROJECTIONS), min_length=1, description="Modules that LoRA is put on, by name."
    )
    use_rslora: bool = Field(
        False, description="Scale by alpha / sqrt(r), so that a higher rank keeps its effect (rsLoRA)."
    )
    use_dora: bool = Field(
        False, description="Learn the length of each weight's rows too (DoRA): slower, with more memory."
    )
    modules_to_save: list[str] | None = Field(
        None, min_length=1, description="Modules, such as embed_tokens, to train whole, without LoRA."
    )

    @model_validator(mode="after")
    def _one_way_each(self) -> Self:
        if both := set(self.target_modules).intersection(self.modules_to_save or ()):
            raise ValueError(f"{min(both)} stands in target_modules and in modules_to_save: it is trained one way")
        return self


class TrainingSettings(Section):
    """Optimisation. Exactly one of `max_steps` and `epochs` says how long."""

    learning_rate: float = Field(2e-4, gt=0, le=1, description="Highest learning rate.")
    scheduler: Literal["constant", "linear", "cosine"] = Field("linear", description="Course of the learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Optimiser steps in which the learning rate rises from 0.")
    batch_size: int = Field(4, ge=1, description="Examples in one optimiser step.")
    micro_batch_size: int | Literal["auto"] = Field(
        "auto", description="Examples in one forward pass. auto: as many as fit the memory."
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto", description="Compute activations twice to save memory. auto: only when one example does not fit."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps, in place of epochs.")
    epochs: float | None = Field(None, gt=0, description="Passes over the train split, in place of max_steps.")
    max_length: int = Field(
        MAX_LENGTH, ge=16, description="Tokens of a conversation; longer rows are refused, not cut."
    )
    optimizer: Literal["adamw", "paged_adamw_8bit"] = Field(
        "adamw", description="AdamW, or its state in 8 bits, which takes less memory and requires a CUDA GPU."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Weight decay of AdamW.")
    max_grad_norm: float = Field(1.0, gt=0, description="Norm that longer gradients are cut to.")
    quantization: Literal["auto", "nf4", "none"] = Field(
        "auto", description="Weights of the base: 4-bit, or unquantised. auto: 4-bit where memory asks for it."
    )
    augmentation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the visits at which a description is seen anew: clauses left out, shuffled.",
    )
    clause_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the clauses left out of a description that is seen anew."
    )
    word_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the words left out of a description that is seen anew."
    )
    contrast: float = Field(
        0.0, ge=0, le=10, description="Weight of a loss that tells answers apart by the state after a description."
    )
    way_back: float = Field(
        0.0, ge=0, le=10, description="Weight of the loss of a second lesson: from the name to the description."
    )
    compute: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Numbers to train in. auto: bfloat16 or float16 on a GPU, float32 on a CPU."
    )
    log_every: int = Field(10, ge=1, description="Optimiser steps that a line of training_log.jsonl averages.")
    save_every: int = Field(50, ge=1, description="Optimiser steps between two checkpoints (and validation losses).")
    keep: Literal["last", "best"] = Field(
        "last", description="Write the adapter of the last step, or of the lowest validation loss."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many validation losses in a row without a lower one."
    )
    track: list[Literal["trackio", "tensorboard", "wandb", "mlflow", "comet", "swanlab"]] | None = Field(
        None, min_length=1, description="Plot the losses while training; the package must be installed."
    )

    @field_validator("micro_batch_size", mode="before")
    @classmethod
    def _whole_or_auto(cls, value: object) -> object:
        if value == "auto":
            return value
        if not str(value).isdecimal() or str(value) == "0":
            raise ValueError(f"{value!r} is neither a whole number from 1 on nor auto")
        return int(str(value))

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.max_steps is not None and self.epochs is not None:
            examples = self.max_steps * self.batch_size
            raise ValueError(
                f"max_steps = {self.max_steps} and epochs = {self.epochs:g} are both given, "
                f"and only one of them could win: {self.max_steps:,} steps of batch_size = {self.batch_size} are "
                f"{examples:,} examples, which are {self.epochs:g} epochs of {examples / self.epochs:,.0f} rows alone"
            )
        if self.max_steps is None and self.epochs is None:
            raise ValueError("neither max_steps nor epochs is given")
        if self.micro_batch_size != "auto" and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size = {self.micro_batch_size} does not divide batch_size = {self.batch_size}"
            )
        return self


class DecodingSettings(Section):
    """How names are sampled."""

    temperature: float = Field(0.7, gt=0, description="Divides the logits: above 1 more varied, below 1 less.")
    top_k: int = Field(50, ge=1, description="How many of the likeliest tokens are drawn from.")
    top_p: float = Field(0.95, gt=0, le=1, description="Probability that the tokens drawn from reach together.")
    max_new_tokens: int = Field(24, ge=1, description="Tokens of a name at most.")


class EvaluationSettings(Section):
    """What is measured, and on how much of it."""

    max_test: int | None = Field(None, ge=1, description="Rows of test to rank names for. Default: all.")
    max_unseen: int | None = Field(None, ge=1, description="Rows of unseen to sample names for. Default: all.")
    names_per_description: int = Field(3, ge=1, description="Names to sample for each description.")
    quantization: Literal["nf4", "none"] = Field("none", description="Weights of the base: 4-bit, or unquantised.")
    selected_on: list[Literal["validation", "test", "half of unseen", "unseen"]] | None = Field(
        None, min_length=1, description="Rows by whose figures the recipe's settings were chosen; the card says so."
    )
    selected_among: int | None = Field(None, ge=1, description="How many runs of a sweep the chosen one was among.")


class PublishSettings(Section):
    """Where `pkt run` publishes; it stops after the evaluation when no adapter repository is given."""

    adapter_repo: str | None = Field(None, description="Repository of the adapter, owner/name.")
    dataset_repo: str | None = Field(None, description="Repository of the dataset. Default: it is not published.")
    local_hub: bool = Field(False, description="Publish to a local Hub in the run folder, without account or network.")

    @field_validator("adapter_repo", "dataset_repo")
    @classmethod
    def _on_a_hub(cls, repo_id: str | None) -> str | None:
        if repo_id is not None and not is_hub_id(repo_id):
            raise ValueError(f"{repo_id!r} is not a Hub id, written owner/name")
        return repo_id


class Recipe(Section):
    """All settings of a run."""

    name: str = Field(description="Of the recipe, in messages, manifests and cards.")
    task: Literal["name", "identify"] = Field(
        "name", description="An adapter that names and identifies, or a sentence encoder that only identifies."
    )
    base: str = Field(min_length=1, description="Hub id of the model that is fine-tuned.")
    base_revision: str | None = Field(None, description="Commit, branch or tag of the base.")
    seed: int = Field(7, ge=0, lt=2**32, description="Seed of splits, training order, sampled names and intervals.")
    dataset: DatasetSettings = DatasetSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings
    decoding: DecodingSettings = DecodingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    publish: PublishSettings = PublishSettings()


# Which settings are options of which command, and the few of those sections that only a file sets. They stand here
# since the command line makes its options from them, and a card writes the commands that make its adapter again.
OPTIONS = {
    "build-dataset": ("dataset", "seed"),
    "train": ("task", "base", "base_revision", "seed", "lora", "training"),
    "evaluate": ("evaluation", "seed"),
}
FILE_ONLY = (
    *("dataset.other_mask", "dataset.korean_mask", "dataset.korean_other_mask", "dataset.min_characters"),
    *("dataset.near_duplicate", "lora.target_modules", "lora.modules_to_save"),
    *("training.weight_decay", "training.max_grad_norm", "training.log_every", "evaluation.selected_on"),
    "evaluation.selected_among",
)


# The settings of `training` that mean something to a sentence encoder.
ENCODER_TRAINING = {
    *("learning_rate", "scheduler", "warmup_steps", "batch_size", "max_steps", "epochs", "weight_decay"),
    *("max_grad_norm", "augmentation", "clause_dropout", "word_dropout", "log_every"),
}


def switched_off(training: Mapping[str, object]) -> list[str]:
    """The settings of a recipe's `training` that change nothing while the one that switches them on is 0 or absent."""
    by_switch = {"augmentation": ["augmentation", "clause_dropout", "word_dropout"]}
    by_switch |= {switch: [switch] for switch in ("contrast", "way_back")}
    return [key for switch, keys in by_switch.items() if not training.get(switch) for key in keys]


@cache
def fields() -> dict[str, FieldInfo]:
    """Every section and setting by its dotted key, in the order of the recipe: type, default and description."""

    def inside(section: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, field in section.model_fields.items():
            yield f"{prefix}{name}", field
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, Section):
                    yield from inside(kind, f"{prefix}{name}.")

    return dict(inside(Recipe, ""))


def settings_with_options(command: str) -> list[str]:
    """The settings that a command has an option for, in the order of the recipe."""
    sections = {key.rpartition(".")[0] for key in fields()}
    taken = [key for key in fields() if key in OPTIONS[command] or key.partition(".")[0] in OPTIONS[command]]
    return [key for key in taken if key not in sections and key not in FILE_ONLY]


def option_name(setting: str) -> str:
    """The option that sets a setting: `--max-length` for `training.max_length`, `--lora-r` for `lora.r`."""
    section, _, key = setting.rpartition(".")
    own = {"dataset.sources.name": "--source", "dataset.sources.location": "--from"}
    prefix = "lora-" if section == "lora" and not key.startswith("use_") else ""
    return own.get(setting) or f"--{prefix}{key}".replace("_", "-")


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the toolkit."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("toolkit.core").joinpath("recipes").iterdir()
        if entry.name.endswith(".toml")
    )


def load_recipe(recipe: str | Mapping[str, object] | None, overrides: Mapping[str, object] | None = None) -> Recipe:
    """A recipe by the name of a shipped one, from a TOML file or from its settings, with overrides on top.

    Args:
        recipe: `demo`, a path that ends in `.toml`, or the settings that a manifest holds (None when it holds none).
        overrides: Dotted keys, such as `training.learning_rate`, to values; a value of None is left out.

    Raises:
        InputError: No such recipe, not TOML, an unknown key (the nearest one is suggested), or a value out of range.
            All problems are named at once.
    """
    if not isinstance(recipe, str | Mapping):
        raise InputError("The manifest holds no recipe.", "Give a `recipe`, or train again.")
    settings = _read(recipe) if isinstance(recipe, str) else dict(recipe)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    lengths = ("training.max_steps", "training.epochs")
    if any(key in given for key in lengths):
        # One of the two takes the place of the other.
        given = dict.fromkeys(lengths) | given
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        table = settings.get(section, {}) if section else settings
        # A value in place of a table is left for the validation to name.
        if isinstance(table, Mapping):
            settings |= {section: dict(table) | {name: value}} if section else {name: value}
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(_problem(entry) for entry in error.errors())
        label = recipe if isinstance(recipe, str) else recipe.get("name")
        raise InputError(f"Recipe {label}: {problems}.", "Correct the recipe or the options.") from error


def _read(name_or_file: str) -> dict[str, object]:
    shipped = files("toolkit.core") / "recipes" / f"{name_or_file}.toml"
    is_file = name_or_file.endswith(".toml")
    if not is_file and name_or_file not in recipe_names():
        remedy = f"Choose {', '.join(recipe_names())} or a file that ends in .toml."
        near = nearest(name_or_file, recipe_names())
        raise InputError(f"There is no recipe {name_or_file!r}.{f' Did you mean {near}?' if near else ''}", remedy)
    try:
        # Some editors write a mark of the encoding first.
        return tomllib.loads((Path(name_or_file) if is_file else shipped).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"Recipe {name_or_file} cannot be read: {error.strerror}.", "Check the path.") from error
    except ValueError as error:
        raise InputError(f"Recipe {name_or_file} is not TOML: {error}.", "Correct the file.") from error


def _problem(entry: ErrorDetails) -> str:
    key = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        # A setting of a section that is none: `trainin.epochs`.
        key = ".".join((key, *list(entry["input"])[:1])) if isinstance(entry["input"], dict) else key
        # `lora_r`, as the options and other tools write it.
        option = key.rpartition(".")[2].replace("_", ".", 1)
        near = option if option in fields() else nearest(key, fields())
        return f"unknown key {key}" + (f" (did you mean {near}?)" if near else "")
    if entry["type"] in ("model_type", "model_attributes_type"):
        return f"{key or 'the recipe'}: must be a table of settings"
    message = entry["msg"].removeprefix("Value error, ")
    return f"{key or 'the recipe'}: {message[:1].lower()}{message[1:]}"
