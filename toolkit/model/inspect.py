"""What an adapter of any trainer is, before anybody trusts it: its files, its base, what it changes, who can use it.

Small files come first, and each section is read by itself: what cannot be known is absent, with the reason.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from itertools import takewhile
from operator import ne
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from toolkit.core import Progress, ignore
from toolkit.core.errors import InputError, ToolkitError, library_errors
from toolkit.core.folder import is_manifest, read_json
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD, MANIFEST, TINY_BASE_ID, TOKENIZER_CONFIG
from toolkit.model import adapter as adapters
from toolkit.model import chat, loading, vllm
from toolkit.model.attach import lengthen_embeddings, put_on_base
from toolkit.model.base import (
    CONFIG,
    LocatedBase,
    base_hash,
    base_license,
    locate_base_to_load,
    published_quantization,
    read_config,
)
from toolkit.model.chat_template import ANSWERS, QUESTION, default_template, read_format, render
from toolkit.model.fit import AGAIN, PICKLED, fill, read_settings, refuse_misfit, refuse_start
from toolkit.model.memory import memory_errors
from toolkit.model.merge import DESCRIPTIONS

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Facts = dict[str, Any]
COMMIT = re.compile("(?<=/snapshots/)[0-9a-f]{40}|^[0-9a-f]{40}$")
ANSWER_TOKENS = 8
SHOWN = ("r", "lora_alpha", "target_modules")
# Keys of the configuration that are said elsewhere, or decide nothing.
ASIDE = {"peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "inference_mode"}
SPECIAL = ("bos_token", "eos_token", "pad_token")
CLAIMS = ("base_model", "library_name", "license", "datasets", "tags", "pipeline_tag")
# A row of a table or of a list: `| LoRA rank | 16 |`, `- r: 16`, `lora_alpha=32`.
STATED = re.compile(r"(?im)^[\s|*`+-]*(?:lora[ ._-]?)?(rank|r|alpha|dropout)[*`]*\s*[|:=][\s|*`]*(\d+(?:\.\d+)?)\b")
SETTINGS = {"rank": "r", "r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}


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
        sections: By name, in this order: `adapter`, `settings`, `tensors` (of its file), `base`, `tokenizer`,
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
        tensors: Names in its file.
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
    tensors: list[str] = field(default_factory=list)
    base: LocatedBase | None = None
    base_config: PretrainedConfig | None = None
    base_tokenizer: PreTrainedTokenizerBase | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    longer: int = 0
    problems: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def named(self) -> str | None:
        """The base that it names."""
        named = self.config.get("base_model_name_or_path")
        return named if isinstance(named, str) else None

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
        "settings": look.section(_settings, broken=True),
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
    config = read_json(look.folder / ADAPTER_CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise InputError(f"{ADAPTER_CONFIG} is not a JSON object with a `peft_type`.", AGAIN)
    look.config |= config
    manifest: Any = read_json(look.folder / MANIFEST) if (look.folder / MANIFEST).is_file() else None
    look.manifest |= dict(manifest) if is_manifest(manifest, "adapter") else {}
    kind, task, peft = (config.get(key) for key in ("peft_type", "task_type", "peft_version"))
    facts = {"kind": kind, "task": task, "peft_version": peft, "trained_by_pkt": look.manifest.get("toolkit")}
    at = COMMIT.search(look.folder.as_posix())
    return Section(facts | {"revision": at and at[0]})


def _settings(look: _Look) -> Section:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, __version__

    kind, given = look.config.get("peft_type"), look.config
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        return Section(unknown=f"peft {__version__} knows no adapters of the kind {kind}")
    defaults = {
        each.name: each.default_factory() if each.default_factory is not MISSING else each.default
        for each in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind])
    }
    odd = {key for key, value in given.items() if value != defaults.get(key) and (value or defaults.get(key))}
    facts = {key: given[key] for key in [*SHOWN, *sorted(odd - {*SHOWN, *ASIDE})] if key in given}
    rank, alpha = given.get("r"), given.get("lora_alpha")
    if kind == "LORA" and isinstance(rank, int) and isinstance(alpha, (int, float)) and rank > 0:
        facts["scaling"] = alpha / (math.sqrt(rank) if given.get("use_rslora") else rank)
    return Section(facts)


def _tensors(look: _Look) -> Section:
    """Read one after the other; what is NaN, infinite or without any effect breaks the adapter."""
    from safetensors import safe_open

    file = look.folder / ADAPTER_WEIGHTS
    if not file.is_file() and (look.folder / PICKLED).is_file():
        return Section(unknown=f"{PICKLED} is a pickle, which can run code of strangers when it is read")
    if not file.is_file():
        raise InputError(f"{look.folder} holds no {ADAPTER_WEIGHTS}.", AGAIN)
    dtypes, count, broken = set(), 0, []
    with library_errors(f"{ADAPTER_WEIGHTS} cannot be read", AGAIN), safe_open(file, "pt") as opened:
        for name in sorted(opened.keys()):
            tensor = opened.get_tensor(name)
            look.tensors.append(name)
            dtypes.add(str(tensor.dtype).removeprefix("torch."))
            count += tensor.numel()
            if not bool(tensor.float().isfinite().all()):
                broken.append(name)
    if broken:
        look.problems.append(f"{len(broken)} of its tensors hold NaN or infinite numbers, first {broken[0]}.")
    return Section(
        {"count": len(look.tensors), "parameters": count, "bytes": file.stat().st_size, "dtypes": sorted(dtypes)}
    )


def _base(look: _Look) -> Section:
    named, recorded = look.named, look.config.get("revision")
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
        base = locate_base_to_load(look.given or str(named), None if other else recorded, weights=False)
        look.base, look.base_config = base, read_config(base.id, base.path / CONFIG)
    except ToolkitError as error:
        return Section(facts, [*notes, f"It is not here: {error.found}"])
    content, same = _within(look.manifest, "base", "content"), None
    if content and any(base.path.glob("*.safetensors")):
        same = base_hash(base) == content
        if not same and not other:
            look.problems.append(
                "Its base is not the one that it was trained on: the contents of its files are others."
            )
    elif base.id != TINY_BASE_ID and base.revision and COMMIT.fullmatch(str(recorded)):
        same = (base.id, base.revision) == (named, recorded)
    published = published_quantization(look.base_config)
    return Section(facts | {"revision": base.revision, "as_trained_on": same, "quantization": published}, notes)


def _within(values: Any, *keys: str) -> Any:
    """What stands in an object within objects, as far as they are any."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


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
    """Whose the chat template is, and what it writes at the beginning and at the end."""
    tokenizer, base = look.tokenizer, look.base_tokenizer
    if tokenizer is None:
        return Section(unknown="there is no tokenizer")
    template, theirs = default_template(tokenizer), base and default_template(base)
    if not template:
        return Section(unknown="there is none")
    text, once = (render(tokenizer, template, QUESTION, None, tokenize=tokenize) for tokenize in (False, True))
    backwards = zip(*(render(tokenizer, template, QUESTION, answer)[::-1] for answer in ANSWERS), strict=False)
    ending = [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], backwards)][::-1]
    begins, again = (
        len(list(takewhile(lambda token: token == tokenizer.bos_token_id, ids)))
        for ids in (once, tokenizer(text).input_ids)
    )
    notes = []
    if begins > 1:
        notes.append(f"A prompt by it begins with {tokenizer.bos_token} {begins} times.")
    elif again > 1:
        notes.append(f"Its text begins with {tokenizer.bos_token} already: tokenised once more, it has two.")
    if ending.count(tokenizer.eos_token_id) > 1:
        notes.append(f"It writes {tokenizer.eos_token} twice after an answer.")
    # Training saves the base's with what it leaves open settled.
    settled = base is not None and not _refusal(lambda: read_format(base)) and template == read_format(base).template
    facts: Facts = {"from": "base" if settled or template == theirs else "adapter", "begin_of_text": begins}
    return Section(facts | {"after_answer": [tokenizer.decode([token]) for token in ending]}, notes)


def _fit(look: _Look) -> Section:
    """Compare the file with the model that adapter and base make, built without weights."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    try:
        settings = read_settings(look.folder)
    except InputError as error:
        # What a library refuses is damaged; what only pkt refuses is not.
        (look.problems if error.__cause__ else look.refused).append(error.found)
        return Section(unknown=error.found)
    if look.problems or look.base_config is None or look.tokenizer is None:
        return Section(unknown="it is broken" if look.problems else "its base is not here")
    if isinstance(getattr(settings, "init_lora_weights", None), str):
        # Some begin with the base's weights, which are not here; their tensors have the same shapes.
        settings.init_lora_weights = True
    with library_errors("It does not fit its base", AGAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(look.base_config)
        lengthen_embeddings(model, look.folder, look.tokenizer)
        fit = fill(PeftModel(model, settings), load_file(look.folder / ADAPTER_WEIGHTS))
    try:
        refuse_misfit(fit, look.folder)
        if adapters.adapter_changes_nothing(look.folder):
            look.problems.append("It changes nothing: with it, the base answers as without it.")
    except InputError as error:
        look.problems.append(error.found)
    facts = {"complete": fit.complete, **asdict(fit), "loaded": len(fit.loaded)}
    facts |= {"prefix": fit.prefix and "{!r} in place of {!r}".format(*fit.prefix)}
    return Section(facts | {"wrong_shape": ["{} {}, not {}".format(*each) for each in fit.wrong_shape]})


def _change(look: _Look, progress: Progress) -> Section:
    """Ask the base, and the adapter on it, and compare at each token of the base's own answers."""
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
        refuse_start(read_settings(look.folder), model, look.folder)
        lengthen_embeddings(model, look.folder, tokenizer)
        with memory_errors():
            before = [_greedy(model, ids) for ids in prompts]
            expected = [_probabilities(model, *read) for read in zip(prompts, before, strict=True)]
    except ToolkitError as error:
        return Section(unknown=error.found)
    del model
    changed = put_on_base(base, precision, look.folder, tokenizer)
    moved, after = [], []
    with memory_errors():
        for number, (ids, said, was) in enumerate(zip(prompts, before, expected, strict=True), start=1):
            # Total variation.
            moved.append((_probabilities(changed, ids, said) - was).abs().sum(-1).div(2).tolist())
            after.append(_greedy(changed, ids))
            progress("comparing with the base", number, len(prompts))
    facts = {"questions": len(prompts), "greedy_answers_that_differ": sum(map(ne, before, after))}
    facts |= {"moved_share_of_first_token": fmean(first for first, *_ in moved)}
    facts |= {"moved_share_along_the_answer": fmean(map(fmean, moved))}
    return Section(facts | {"base_says": tokenizer.decode(before[0]), "adapter_says": tokenizer.decode(after[0])})


def _prompts(look: _Look, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The questions as pkt asks them; without a template that allows it, their bare texts."""
    asked = look.manifest.get("request") or chat.REQUEST, look.manifest.get("system")
    try:
        return [chat.prompt_ids(tokenizer, chat.naming_messages(text, *asked)) for text in DESCRIPTIONS]
    except InputError:
        return [list(tokenizer(text).input_ids) for text in DESCRIPTIONS]


def _greedy(model: PreTrainedModel, ids: list[int]) -> list[int]:
    import torch

    prompt = torch.tensor([ids], device=model.device)
    plain = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None, "pad_token_id": 0}
    with torch.inference_mode():
        whole = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=ANSWER_TOKENS, **plain
        )
    return list(whole[0, len(ids) :].tolist())


def _probabilities(model: PreTrainedModel, ids: list[int], answer: list[int]) -> torch.Tensor:
    """Of each token of an answer, `[tokens, vocabulary]`."""
    import torch

    whole = torch.tensor([[*ids, *answer]], device=model.device)
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=whole, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
    if not bool(logits.isfinite().all()):
        raise loading.nan_error()
    return logits.float().softmax(-1)


def _card(look: _Look) -> Section:
    """What the card claims; where the files say otherwise is a note."""
    from huggingface_hub import metadata_load
    from huggingface_hub.repocard_data import model_index_to_eval_results

    card, config, notes = look.folder / CARD, look.config, []
    if not card.is_file():
        return Section(unknown=f"there is no {CARD}")
    with library_errors(f"Its {CARD} cannot be read", "Correct it."):
        text, claims = card.read_text(encoding="utf-8-sig"), metadata_load(card) or {}
        results = model_index_to_eval_results(claims["model-index"])[1] if claims.get("model-index") else []
    facts = {key: claims[key] for key in CLAIMS if claims.get(key)}
    facts["results"] = [f"{each.metric_name or each.metric_type} {each.metric_value}" for each in results]
    said = {key: value if isinstance(value, list) else [value] for key, value in facts.items()}
    files = {"base_model": config.get("base_model_name_or_path"), "library_name": "peft"}
    files["datasets"] = _within(look.manifest, "dataset", "id")
    if look.base and (look.base.path / CARD).is_file():
        stated = base_license(look.base)
        files["license"] = None if stated == "other" else stated
    for key, found in files.items():
        if key in said and found and found not in said[key]:
            whose = "the base's is" if key == "license" else "the files say"
            notes.append(f"{key}: it says {', '.join(map(str, said[key]))}, {whose} {found}.")
    for name, value in STATED.findall(text):
        found = config.get(SETTINGS[name.lower()])
        if isinstance(found, (int, float)) and float(value) != found:
            notes.append(f"{name}: it says {value}, the files say {found}.")
    return Section(facts, notes)


def _uses(look: _Look, sections: Mapping[str, Section]) -> list[Use]:
    """What peft, pkt and vLLM can do with it."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    def use(tool: str, against: list[str], unknown: str | None = None, takes: Sequence[str] = ()) -> Use:
        against = ["it is broken"] if look.problems else against
        return Use(tool, False if against else None if unknown else True, against or [*filter(None, [unknown]), *takes])

    kind, untried = look.config.get("peft_type"), sections["change"].unknown
    unasked, unmerged = list(look.refused), list(look.refused)
    if tokenizer := look.tokenizer:
        unasked += _refusal(lambda: chat.prompt_ids(tokenizer, list(QUESTION)))
        unmerged += _refusal(lambda: read_format(tokenizer))
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(kind), "merge_and_unload"):
        unmerged.append(f"{kind} changes no weights that could be merged")
    if look.base_config and published_quantization(look.base_config):
        unmerged.append("its base is quantised where it is published: give the `base` that it was made from")
    serves, why = vllm.can_serve(look.config, look.tensors, look.longer)
    return [
        use("peft", [], sections["fit"].unknown),
        use("pkt evaluate", unasked, untried),
        use("pkt merge", unmerged, untried),
        use(f"vLLM {vllm.VERSION}", [] if serves else why, takes=why),
    ]


def _refusal(ask: Callable[[], object]) -> list[str]:
    """Why pkt refuses something, if it does."""
    try:
        ask()
    except InputError as error:
        return [error.found]
    return []
