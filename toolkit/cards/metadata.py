"""What the Hub reads and searches by: the front matter of all cards, a dataset's benchmark and the results in it.

Names are Hub ids or the last part of a path, so that no path of the machine that trained is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from toolkit.cards.escape import md_text, plain
from toolkit.core.hub_client import DEFAULT_ENDPOINT, is_hub_id
from toolkit.core.layout import TASK, TINY_BASE_ID
from toolkit.core.results import Evaluation
from toolkit.core.text import has_hangul

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# An object of a JSON file; a manifest is one, or the facts that a step will write into it.
JsonObject = Mapping[str, Any]
Manifest = JsonObject

GEMMA = re.compile(r"google/gemma-.+")
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
POKEMON = re.compile(r"corpus|pokeapi|.*pok[eé]mon.*", re.IGNORECASE)
MEASURES = {
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("top_5_accuracy", "Top-5 accuracy"),
    "mrr": ("mrr", "MRR"),
    "exact": ("exact_match", "Exact match of the greedy name"),
}
# The form of a licence id on the Hub; anything else is `other` there.
LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,39}")
# Longest name in the front matter, in characters.
LONGEST = 96

SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")),
)
LARGEST = "100M<n<1B"
# Licence ids of datasets that the Hub knows; any other is written as `other` with its name.
HUB_LICENSES = frozenset(
    {
        *("apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "gfdl", "gpl-3.0", "isc", "mit"),
        *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
        *("odbl", "odc-by", "pddl", "cdla-permissive-2.0", "cdla-sharing-1.0", "unlicense"),
    }
)
DATASET_TAGS = ("naming", "instruction-tuning")
LANGUAGE = re.compile(r"[a-z]{2,3}")

# A text for PyYAML, which knows YAML 1.1, and a number or a truth value for some other parser (of YAML 1.2, or Ruby's).
OTHERWISE = re.compile(
    r"(?:[-+]?(?:0o[0-7_]+|0b[01_]+|0x[0-9a-f_]+|(?:\d[\d_,]*(?:\.[\d_]*)?|\.[\d_]+)(?:e[-+]?\d+)?)|[yn])$",
    re.IGNORECASE,
)


# Ends of lines in YAML 1.1, letters in 1.2.
BREAKS = re.compile("[\x85\u2028\u2029]")


class _Dumper(yaml.SafeDumper):
    """Quotes each text that a parser would read as something else."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if BREAKS.search(text) else None)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", OTHERWISE, [*"-+.0123456789yYnN"])


def to_yaml(data: Any) -> str:
    """The `CardData` of a card as YAML, without its `---` lines."""
    return _dumped(data.to_dict()).strip()


def _dumped(value: object) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dataset_front_matter(facts: Manifest, rows: Mapping[str, int], languages: Sequence[str], title: str) -> str:
    """The YAML of a dataset card, without its `---` lines; `rows` are those of each split that has any."""
    from huggingface_hub import DatasetCardData

    asked = {"ko"} if asked_in_korean(facts["settings"]["request"]) else set()
    spoken = {*asked, *(("en", "ko") if facts["settings"]["answer"] == "both" else [facts["settings"]["answer"]])}
    spoken |= {language for language in languages if LANGUAGE.fullmatch(language)}
    license = facts["license"].lower()
    known = license in HUB_LICENSES
    kinds = {source["name"] for source in facts["sources"]}
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows]
    written, found = "corpus" in kinds, bool(kinds - {"corpus"})
    data = DatasetCardData(
        language=sorted(spoken),
        license=license if known else "other",
        license_name=None if known else "see-card",
        pretty_name=title,
        size_categories=[next((name for limit, name in SIZES if sum(rows.values()) < limit), LARGEST)],
        task_categories=["text-generation"],
        multilinguality=["multilingual" if len(spoken) > 1 else "monolingual"],
        # The names came with the texts, or the texts were written for the names.
        annotations_creators=[*(["no-annotation"] if written else []), *(["found"] if found else [])],
        language_creators=[*(["machine-generated"] if written else []), *(["found"] if found else [])],
        source_datasets=list(dict.fromkeys(map(_origin, facts["sources"]))),
        tags=[
            *(["pokemon"] if facts["pokemon"] else []),
            *(["synthetic"] if written else []),
            "chat",
            *(["korean"] if "ko" in spoken else []),
            *DATASET_TAGS,
        ],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return to_yaml(data)


def is_encoder(manifest: Manifest) -> bool:
    """Whether a manifest is that of a sentence encoder, not of an adapter."""
    return (manifest["recipe"] or {}).get("task") == "identify"


def model_front_matter(manifest: Manifest, evaluation: Evaluation | None, repo_id: str | None) -> str:
    """The YAML of an adapter's or an encoder's card, without its `---` lines, with base and dataset of the Hub only."""
    quantised = manifest.get("precision", {}).get("base") == "nf4"
    relation, library, tags = "adapter", "peft", ["lora", *(["qlora"] if quantised else []), "naming"]
    if is_encoder(manifest):
        relation, library, tags = "finetune", "sentence-transformers", ["sentence-transformers", "feature-extraction"]
    tags += ["pokemon"] if is_pokemon(manifest) else []
    results = _results(manifest, evaluation) or None
    return _model_yaml(manifest, relation, library, tags, model_name(manifest, repo_id), results)


def merged_front_matter(manifest: Manifest) -> str:
    """The YAML of a merged model's card: on the Hub, a base with an adapter merged into it is its finetune."""
    name = f"{manifest['adapter']['id'].rpartition('/')[2]}-merged"
    return _model_yaml(manifest, "finetune", "transformers", ["naming"] if manifest["recipe"] else [], name)


def gguf_front_matter(manifest: Manifest) -> str:
    """The YAML of the card of a GGUF file: a finetune of the base as a merged model is, or an adapter of it."""
    tags = ["gguf", "llama-cpp", *(["naming"] if manifest["recipe"] else [])]
    relation = "adapter" if manifest["lora"] else "finetune"
    return _model_yaml(manifest, relation, "gguf", tags, manifest["file"].removesuffix(".gguf"))


def base_front_matter(manifest: Manifest) -> str:
    """The YAML of the card of a base that was read from a GGUF file, with the licence that the file states."""
    base = {"id": manifest["gguf"]["file"], "license": (manifest["license"] or "other").lower()}
    name = manifest["id"].rpartition("/")[2]
    return _model_yaml({"base": base, "dataset": {}, "recipe": None}, "quantized", "transformers", [], name)


def _model_yaml(
    manifest: Manifest,
    relation: str,
    library: str,
    tags: list[str],
    name: str,
    results: list[EvalResult] | None = None,
) -> str:
    # Late, since huggingface_hub reads its endpoint when it is imported.
    from huggingface_hub import ModelCardData

    base, dataset = manifest["base"], manifest["dataset"].get("id", "")
    on_hub = is_hub_id(base["id"])
    stated, link = license_of(base)
    known = stated is None or LICENSE_ID.fullmatch(stated) is not None
    languages = manifest["languages"] if is_encoder(manifest) else ["ko", "en"] if manifest["recipe"] else None
    data = ModelCardData(
        base_model=base["id"] if on_hub else None,
        base_model_relation=relation if on_hub else None,
        library_name=library,
        pipeline_tag=_pipeline(manifest),
        license=stated if known else "other",
        license_name=None if known else "see-card",
        license_link=link,
        datasets=[dataset] if is_hub_id(dataset) else None,
        language=languages or None,
        tags=tags or None,
        model_name=name,
        eval_results=results,
    )
    return to_yaml(data)


def model_name(manifest: Manifest, repo_id: str | None) -> str:
    """The repository's own name; without a repository, the recipe's."""
    name = repo_id.partition("/")[2] or repo_id if repo_id else str(manifest["recipe"]["name"])
    return plain(name, LONGEST) or "adapter"


def license_of(base: JsonObject) -> tuple[str | None, str | None]:
    """Licence id and link that a base passes on to its adapter: what its card states, else Gemma's for a Gemma."""
    stated = base.get("license")
    if stated in (None, "other", "gemma") and GEMMA.fullmatch(base["id"]):
        stated = "gemma"
    return stated, GEMMA_TERMS if stated == "gemma" else None


def is_pokemon(manifest: Manifest) -> bool:
    """Whether the names in the dataset are Pokémon's, which are trademarks."""
    dataset = manifest["dataset"]
    named = [dataset["id"], *(dataset.get("sources") or ())]
    return any(POKEMON.fullmatch(name) for name in named)


def asked_in_korean(request: str | None) -> bool:
    """Whether the request of a dataset's rows is Korean, as the toolkit's own is."""
    return request is None or has_hangul(request)


def public_name(name: str) -> str:
    """A Hub id as it is; of a path its last part."""
    return name if is_hub_id(name) else plain(re.split(r"[/\\]", name.rstrip("/\\"))[-1], LONGEST) or "unnamed"


def linked(name: str, manifest: Manifest, kind: str = "") -> str:
    """A name in Markdown, a link to its page when the public Hub has one. `kind` is `datasets/` for a dataset."""
    shown = md_text(public_name(name))
    has_page = is_hub_id(name) and name != TINY_BASE_ID and manifest.get("public_hub", True)
    return f"[{shown}]({DEFAULT_ENDPOINT}/{kind}{name})" if has_page else shown


def _origin(source: JsonObject) -> str:
    """The origin of a dataset's rows in the Hub's words: itself, a dataset there, or something else."""
    if source["name"] == "corpus":
        return "original"
    return str(source["location"]) if source["name"] == "hub" and is_hub_id(source["location"]) else "extended|other"


def _pipeline(manifest: Manifest) -> str:
    return "sentence-similarity" if is_encoder(manifest) else "text-generation"


def _results(manifest: Manifest, evaluation: Evaluation | None) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    if evaluation is None or evaluation.test is None:
        return []
    scores = evaluation.test.methods.get("adapter", {})
    trained_on, measured_on = manifest["dataset"], evaluation.dataset
    # The same rows keep the name under which they were published.
    same = measured_on.content == trained_on["content"]
    name = public_name(trained_on["id"] if same else measured_on.id)
    revision = trained_on.get("revision") if same else measured_on.revision
    return [
        EvalResult(
            task_type=_pipeline(manifest),
            dataset_type=name,
            dataset_name=name,
            dataset_split="test",
            dataset_revision=plain(revision, LONGEST) if revision else None,
            metric_type=kind,
            metric_name=metric,
            metric_value=round(float(scores[measure].value), 4),
        )
        for measure, (kind, metric) in MEASURES.items()
        if measure in scores
    ]


# A dataset as a benchmark (`eval.yaml`), and an adapter's result in it (`.eval_results/`):
# https://huggingface.co/docs/hub/eval-results


def benchmark(title: str, request: str, system: str | None) -> str:
    """The `eval.yaml` of a dataset whose rows all ask with one request: Inspect asks as an evaluation does."""

    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    templates = {"system_message": system and escaped(system), "prompt_template": escaped(request) + "\n\n{prompt}"}
    asking = [{"name": name, "args": {"template": text}} for name, text in templates.items() if text]
    task = {
        "id": TASK,
        "config": "default",
        "split": "test",
        "field_spec": {"input": "description", "target": "answer"},
        "solvers": [*asking, {"name": "generate"}],
        "scorers": [{"name": "match", "args": {"location": "exact", "ignore_case": False}}],
    }
    said = "The share of descriptions for which a model writes exactly the right name. Ask without sampling."
    return _dumped({"name": title, "description": said, "evaluation_framework": "inspect-ai", "tasks": [task]})


def benchmark_result(manifest: Manifest, evaluation: Evaluation | None) -> str | None:
    """The file in `.eval_results/` of an adapter: the share of names that it wrote exactly right.

    None unless it was measured on all of the `test` of the dataset that it was trained on, where that is a benchmark.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    dataset = manifest["dataset"]
    test = evaluation.test if evaluation and evaluation.dataset.content == dataset["content"] else None
    exact = test.methods.get("adapter", {}).get("exact") if test else None
    whole = test is not None and test.rows == dataset["rows"].get("test")
    if exact is None or not whole or dataset.get("task") != TASK or not is_hub_id(dataset["id"]):
        return None
    between = f", 95% interval {exact.low:.4f} to {exact.high:.4f}" if exact.interval else ""
    entry = EvalResultEntry(
        dataset_id=dataset["id"],
        task_id=TASK,
        value=round(exact.value, 4),
        dataset_revision=dataset.get("revision"),
        notes=f"without sampling{between}",
    )
    return _dumped(eval_result_entries_to_yaml([entry]))
