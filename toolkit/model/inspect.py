"""What an adapter of any trainer is, before anybody trusts it: its files, its base, what it changes, who can use it.

Small files come first, and each section is read by itself: what cannot be known is absent, with the reason.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from operator import ne
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from toolkit.cards import vllm
from toolkit.core import Progress, ignore
from toolkit.core.errors import InputError, ToolkitError, library_errors
from toolkit.core.folder import is_manifest, read_json
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD, MANIFEST, TINY_BASE_ID, TOKENIZER_CONFIG
from toolkit.model import adapter as adapters
from toolkit.model import attach, chat, loading
from toolkit.model import base as bases
from toolkit.model.chat_template import QUESTION, read_format, render
from toolkit.model.memory import memory_errors
from toolkit.model.merge import DESCRIPTIONS

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Facts = dict[str, Any]
COMMIT = re.compile("(?<=/snapshots/)[0-9a-f]{40}|^[0-9a-f]{40}$")
ANSWER_TOKENS = 8
SHOWN = {"r", "lora_alpha", "target_modules"}
# Keys of the configuration that are said elsewhere, or decide nothing.
ASIDE = {"peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "inference_mode"}
SPECIAL = ("bos_token", "eos_token", "pad_token")
CLAIMS = ("base_model", "library_name", "license", "datasets", "tags")


@dataclass(frozen=True, slots=True)
class Section:
    """What is known of one side of an adapter: facts by name, what to look after, and why nothing is known."""

    facts: Facts = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unknown: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """Whether a tool can use the adapter (None: not known), and why not or what it takes."""

    tool: str
    works: bool | None
    why: list[str]


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """An adapter at a glance.

    Attributes:
        adapter: As it was named.
        sections: By name, in this order: `adapter`, `tensors` (of its file), `base`, `tokenizer`,
            `template`, `fit` (of adapter and base), `change` (of the base's answers), `card`.
        uses: What can be done with it.
        problems: Why it is broken; none where it is sound.
    """

    adapter: str
    sections: dict[str, Section]
    uses: list[Use]
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.problems


@dataclass(slots=True)
class _Look:
    """What the sections share.

    Attributes:
        folder: The adapter's; `config` its `adapter_config.json`, `manifest` its manifest where pkt trained it.
        tensors: Those of its file, by name.
        given: The base that it is looked at with in place of its own.
        base: That base, without its weights, if it can be had; `base_config` and `base_tokenizer` are its.
        tokenizer: The adapter's own, else the base's, with the chat template that is used.
        longer: How many tokens that has beyond the embeddings of the base.
        problems: Why it is broken.
        refused: Why pkt cannot ask it all the same.
    """

    folder: Path
    given: str | None
    config: Facts = field(default_factory=dict)
    manifest: Facts = field(default_factory=dict)
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    base: bases.LocatedBase | None = None
    base_config: PretrainedConfig | None = None
    base_tokenizer: PreTrainedTokenizerBase | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    longer: int = 0
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def section(self, read: Callable[[_Look], Section], *, broken: bool = False) -> Section:
        """A section; an error is why it is unknown, and if it is the adapter's, why that is `broken`."""
        try:
            return read(self)
        except ToolkitError as error:
            if broken and isinstance(error, InputError):
                self.problems.append(error.found)
            return Section(unknown=error.found)


def inspect_adapter(
    adapter: str | Path,
    *,
    revision: str | None = None,
    base: str | None = None,
    weights: bool = True,
    progress: Progress = ignore,
) -> AdapterReport:
    """Look at an adapter. What is broken, or cannot be known, stands in the report.

    Args:
        adapter: Its folder or Hub id.
        revision: Commit, branch or tag of an adapter on the Hub.
        base: Another base than the one that it names.
        weights: Whether to load the base and see how its answers change. All else takes no weights of it.
        progress: Called while the base is asked.

    Raises:
        InputError: There is no adapter.
        HubError, EnvironmentLacks: The adapter cannot be downloaded.
    """
    look = _Look(adapters.locate_adapter(str(adapter), revision), base)
    # Each needs what those before it found; of a broken adapter, the base's weights are not even downloaded.
    sections = {
        "adapter": look.section(_adapter, broken=True),
        "tensors": look.section(_tensors, broken=True),
        "base": look.section(_base),
        "tokenizer": look.section(_tokenizer, broken=True),
        "template": look.section(_template),
        "fit": look.section(_fit, broken=True),
    }
    sections["change"] = Section(unknown="the base was not to be loaded")
    if weights:
        sections["change"] = look.section(lambda look: _change(look, progress), broken=True)
    # With the base's weights came its own card.
    sections["card"] = look.section(_card)
    return AdapterReport(str(adapter), sections, _uses(look, sections), look.problems)


def _adapter(look: _Look) -> Section:
    """Its kind and origin, rank, factor and modules, and all else that is not as peft has it by default."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config = read_json(look.folder / ADAPTER_CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise InputError(f"{ADAPTER_CONFIG} is not a JSON object with a `peft_type`.", attach.AGAIN)
    look.config.update(config)
    if (look.folder / MANIFEST).is_file() and is_manifest(manifest := read_json(look.folder / MANIFEST), "adapter"):
        look.manifest.update(manifest)
    at = COMMIT.search(look.folder.as_posix())
    facts = {"kind": config["peft_type"], "task": config.get("task_type"), "peft_version": config.get("peft_version")}
    facts |= {"trained_by_pkt": look.manifest.get("toolkit"), "revision": at and at[0]}
    for key, value in config.items():
        default = getattr(PEFT_TYPE_TO_CONFIG_MAPPING.get(config["peft_type"]), key, None)
        if key in SHOWN or (key not in ASIDE and value != default and (value or default)):
            facts[key] = value
    return Section(facts)


def _tensors(look: _Look) -> Section:
    from safetensors.torch import load_file

    file = look.folder / ADAPTER_WEIGHTS
    if not file.is_file() and (look.folder / attach.PICKLED).is_file():
        return Section(unknown=f"{attach.PICKLED} is a pickle, which can run code of strangers when it is read")
    if not file.is_file():
        raise InputError(f"{look.folder} holds no {ADAPTER_WEIGHTS}.", attach.AGAIN)
    with library_errors(f"{ADAPTER_WEIGHTS} cannot be read", attach.AGAIN):
        look.tensors = tensors = load_file(file)
    if broken := [name for name, tensor in tensors.items() if not bool(tensor.float().isfinite().all())]:
        raise InputError(
            f"{len(broken)} of its tensors hold NaN or infinite numbers, first {min(broken)}.", attach.AGAIN
        )
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    parameters = sum(tensor.numel() for tensor in tensors.values())
    return Section({"count": len(tensors), "parameters": parameters, "bytes": file.stat().st_size, "dtypes": dtypes})


def _base(look: _Look) -> Section:
    named, recorded = look.config.get("base_model_name_or_path"), look.config.get("revision")
    if not (look.given or named):
        return Section(unknown=f"{ADAPTER_CONFIG} names none")
    facts: Facts = {"named": named, "named_revision": recorded, "looked_at_with": look.given}
    notes = []
    if named and not is_hub_id(named):
        notes.append(f"{ADAPTER_CONFIG} names it by a path of one machine: on others, the adapter cannot be loaded.")
    elif not recorded and named != TINY_BASE_ID:
        notes.append(f"{ADAPTER_CONFIG} records no revision of it: the newest is taken, which may be another.")
    other = look.given not in (None, named)
    try:
        base = bases.locate_base_to_load(str(look.given or named), None if other else recorded, weights=False)
        look.base, look.base_config = base, bases.read_config(base.id, base.path / bases.CONFIG)
    except ToolkitError as error:
        return Section(facts, [*notes, f"It is not here: {error.found}"])
    content, same = look.manifest.get("base", {}).get("content"), None
    if content and any(base.path.glob("*.safetensors")):
        same = bases.base_hash(base) == content
        if not same and not other:
            look.problems.append(
                "Its base is not the one that it was trained on: the contents of its files are others."
            )
    elif base.id != TINY_BASE_ID and base.revision and COMMIT.fullmatch(str(recorded)):
        same = (base.id, base.revision) == (named, recorded)
    published = bases.published_quantization(look.base_config)
    return Section(facts | {"revision": base.revision, "as_trained_on": same, "quantization": published}, notes)


def _tokenizer(look: _Look) -> Section:
    own = loading.load_tokenizer(look.folder) if (look.folder / TOKENIZER_CONFIG).is_file() else None
    base = look.base_tokenizer = loading.load_tokenizer(look.base.path) if look.base else None
    look.tokenizer = shown = adapters.adapter_tokenizer(look.folder, look.base) if look.base else own
    if shown is None:
        return Section(unknown="it brings none, and its base is not here")
    special = {name: getattr(shown, name) for name in SPECIAL}
    facts: Facts = {"own": own is not None, "tokens": len(shown), **special}
    notes = []
    if own is not None and base is not None:
        ours, theirs = own.get_vocab(), base.get_vocab()
        changed = {name: getattr(base, name) for name in SPECIAL if getattr(base, name) != special[name]}
        added = sorted(ours.keys() - theirs.keys(), key=ours.__getitem__)
        facts |= {"as_the_base": ours == theirs and not changed, "added": added}
        notes += [f"{name} is {special[name]}, and the base's is {other}." for name, other in changed.items()]
        if other := sum(ours.get(token) != place for token, place in theirs.items()):
            notes.append(f"{other} of the base's tokens have another id, or none.")
        if look.base_config and (more := len(own) - look.base_config.get_text_config().vocab_size) > 0:
            look.longer = more
            notes.append(f"It has {more} tokens more than the base has embeddings for.")
    if special["pad_token"] is not None and special["pad_token"] == special["eos_token"]:
        notes.append("Padding is the end of text: who leaves padding out of the loss never teaches it to end.")
    if shown("x").input_ids[-1:] == [shown.eos_token_id]:
        notes.append(f"It ends every text with {special['eos_token']}, a prompt too.")
    return Section(facts, notes)


def _template(look: _Look) -> Section:
    """Whose the chat template is, how often a prompt by it begins, and what ends an answer."""
    tokenizer, base = look.tokenizer, look.base_tokenizer
    if tokenizer is None:
        return Section(unknown="there is no tokenizer")
    own = read_format(tokenizer)
    text = render(tokenizer, own.template, QUESTION, None, tokenize=False)
    begins = len(list(takewhile(lambda token: token == tokenizer.bos_token_id, tokenizer(text).input_ids)))
    notes = []
    if begins > 1:
        notes.append(f"Its text begins with {tokenizer.bos_token} already: tokenised once more, it has {begins}.")
    if chat.begins_every_text(tokenizer) and not text.startswith(tokenizer.bos_token):
        notes.append(f"It writes no {tokenizer.bos_token}, which other texts begin with: prompts go without it.")
    # Training saves the base's with what it leaves open settled.
    same = base is not None and not _refusal(lambda: read_format(base)) and own.template == read_format(base).template
    facts = {"from": "base" if same else "adapter", "ends_an_answer": tokenizer.decode([own.end_id])}
    return Section(facts, notes)


def _fit(look: _Look) -> Section:
    """Compare the file with the model that adapter and base make, built without weights."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        settings = attach.read_settings(look.folder)
    except InputError as error:
        # What a library refuses is damaged; what only pkt refuses is not.
        (look.problems if error.__cause__ else look.refused).append(error.found)
        return Section(unknown=error.found)
    if look.problems or look.base_config is None or look.tokenizer is None:
        return Section(unknown="it is broken" if look.problems else "its base is not here")
    if isinstance(getattr(settings, "init_lora_weights", None), str):
        # Some begin with the base's weights, which are not here; their tensors have the same shapes.
        settings.init_lora_weights = True
    with library_errors("It does not fit its base", attach.AGAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(look.base_config)
        attach.lengthen_embeddings(model, look.folder, look.tokenizer)
        fit = attach.fill(PeftModel(model, settings), look.tensors)
    look.problems += _refusal(lambda: attach.refuse_misfit(fit, look.folder))
    facts = {"complete": fit.complete, **asdict(fit), "loaded": len(fit.loaded)}
    facts |= {"prefix": fit.prefix and "{!r} in place of {!r}".format(*fit.prefix)}
    return Section(facts | {"wrong_shape": ["{} {}, not {}".format(*each) for each in fit.wrong_shape]})


def _change(look: _Look, progress: Progress) -> Section:
    """Ask the base, and the adapter on it."""
    tokenizer, against = look.tokenizer, look.problems or look.refused
    if against or tokenizer is None:
        return Section(unknown="it is broken" if look.problems else against[0] if against else "there is no tokenizer")
    prompts = _prompts(look, tokenizer)
    try:
        base = adapters.locate_base_of(look.folder, "none", look.given)
        precision = loading.chosen_precision(base, "none")
        # Some bases overflow float16, which is no fault of the adapter.
        precision = precision.widened("some") if precision.compute == "float16" else precision
        model = loading.load_base(base, precision)
        attach.refuse_start(attach.read_settings(look.folder), model, look.folder)
        attach.lengthen_embeddings(model, look.folder, tokenizer)
        before = [_answer(model, ids) for ids in prompts]
    except ToolkitError as error:
        return Section(unknown=error.found)
    changed = attach.put_on(model, look.folder, tokenizer)
    after = []
    for number, ids in enumerate(prompts, start=1):
        after.append(_answer(changed, ids))
        progress("comparing with the base", number, len(prompts))
    # Total variation.
    moved = fmean(float((one - other).abs().sum() / 2) for (one, _), (other, _) in zip(before, after, strict=True))
    if math.isnan(moved):
        raise loading.nan_error()
    said, says = ([answer for _, answer in each] for each in (before, after))
    facts = {"questions": len(prompts), "greedy_answers_that_differ": sum(map(ne, said, says))}
    facts |= {"moved_share_of_first_token": moved}
    return Section(facts | {"base_says": tokenizer.decode(said[0]), "adapter_says": tokenizer.decode(says[0])})


def _prompts(look: _Look, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The questions as pkt asks them; without a template that allows it, their bare texts."""
    asked = look.manifest.get("request") or chat.REQUEST, look.manifest.get("system")
    try:
        return [chat.prompt_ids(tokenizer, chat.naming_messages(text, *asked)) for text in DESCRIPTIONS]
    except InputError:
        return [list(tokenizer(text).input_ids) for text in DESCRIPTIONS]


def _answer(model: PreTrainedModel, ids: list[int]) -> tuple[torch.Tensor, list[int]]:
    """The probabilities of the first token, `[vocabulary]`, and the beginning of the greedy answer."""
    import torch

    first = attach.next_logits(model, ids)[0, -1].float().softmax(-1)
    prompt = torch.tensor([ids], device=model.device)
    plain = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None, "pad_token_id": 0}
    with memory_errors(), torch.inference_mode():
        whole = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=ANSWER_TOKENS, **plain
        )
    return first, whole[0, len(ids) :].tolist()


def _card(look: _Look) -> Section:
    """What the card claims; where the files say otherwise is a note."""
    from huggingface_hub import metadata_load
    from huggingface_hub.repocard_data import model_index_to_eval_results

    card, notes = look.folder / CARD, []
    if not card.is_file():
        return Section(unknown=f"there is no {CARD}")
    with library_errors(f"Its {CARD} cannot be read", "Correct it."):
        claims = metadata_load(card) or {}
        results = model_index_to_eval_results(claims["model-index"])[1] if claims.get("model-index") else []
    facts: Facts = {key: claims[key] for key in CLAIMS if claims.get(key)}
    files = {"base_model": look.config.get("base_model_name_or_path"), "library_name": "peft"}
    files["datasets"] = look.manifest.get("dataset", {}).get("id")
    for key, found in files.items():
        if found and facts.get(key) not in (None, found, [found]):
            notes.append(f"{key}: it says {facts[key]}, the files say {found}.")
    licence = bases.base_license(look.base) if look.base and (look.base.path / CARD).is_file() else "other"
    if licence != "other" and facts.get("license") not in (None, licence):
        notes.append(f"license: it says {facts['license']}, the base's is {licence}.")
    facts["results"] = [f"{each.metric_name or each.metric_type} {each.metric_value}" for each in results]
    return Section(facts, notes)


def _uses(look: _Look, sections: Mapping[str, Section]) -> list[Use]:
    """What peft, pkt and vLLM can do with it."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    def use(tool: str, against: Sequence[str], unknown: str | None = None, takes: Sequence[str] = ()) -> Use:
        against = ["it is broken"] if look.problems else against
        return Use(
            tool, False if against else None if unknown else True, list(against) or [*filter(None, [unknown]), *takes]
        )

    kind, untried = look.config.get("peft_type"), sections["change"].unknown
    unasked, unmerged = list(look.refused), list(look.refused)
    if tokenizer := look.tokenizer:
        unasked += _refusal(lambda: chat.prompt_ids(tokenizer, list(QUESTION)))
        unmerged += _refusal(lambda: read_format(tokenizer))
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "merge_and_unload"):
        unmerged.append(f"{kind} changes no weights that could be merged")
    if look.base_config and bases.published_quantization(look.base_config):
        unmerged.append("its base is quantised where it is published: give the `base` that it was made from")
    lacks, takes = ([], []) if look.problems else vllm.can_serve(look.config, look.tensors, look.longer)
    return [
        use("peft", [], sections["fit"].unknown),
        use("pkt evaluate", unasked, untried),
        use("pkt merge", unmerged, untried),
        use(f"vLLM {vllm.VERSION}", [f"it does not support {what}" for what in lacks], takes=takes),
    ]


def _refusal(ask: Callable[[], object]) -> list[str]:
    """Why pkt refuses something, if it does."""
    try:
        ask()
    except InputError as error:
        return [error.found]
    return []
