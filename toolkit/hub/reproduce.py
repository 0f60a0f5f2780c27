"""The clean process of `verify`: `python -m toolkit.hub.reproduce REPO_ID REVISION RESULT`, with an empty cache.

It loads an adapter as a reader does, by repository id with peft, and compares hashes, cards, samples and the output of
the card's own code with what the repository says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from toolkit import cards
from toolkit.core import imports
from toolkit.core.errors import ToolkitError
from toolkit.core.folder import file_hashes, is_manifest, read_json, read_jsonl, write_json
from toolkit.core.hub_client import hub_errors, is_hub_id, without_secrets
from toolkit.core.layout import (
    ADAPTER_CONFIG,
    ANSWERS,
    CARD,
    DTYPES,
    EDITED,
    ENCODER,
    EVALUATION,
    MANIFEST,
    SAMPLES,
    TAKEN_NAMES,
)
from toolkit.core.recipe import DecodingSettings
from toolkit.hub.safety import is_pickle
from toolkit.model import encoder as encoders
from toolkit.model import generate
from toolkit.model.adapter import may_be_quantized
from toolkit.model.chat import prompt_ids
from toolkit.model.loading import nf4_config
from toolkit.model.memory import drawing_machine
from toolkit.model.new_names import known_names, sample_new
from toolkit.model.prompts import in_columns

# Imports the libraries of a card's code, and waits for it.
READER = """
import gc, sys
sys.modules["toolkit"] = None
gc.disable()
import peft, transformers
gc.enable()
exec(compile(sys.stdin.read(), "README.md", "exec"), {"__name__": "__main__"})
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A downloaded adapter repository: its manifest, and the samples that its card shows."""

    id: str
    revision: str
    folder: Path
    manifest: dict[str, Any]
    samples: list[dict[str, Any]]

    @property
    def kind(self) -> str:
        """Whether it is an adapter or an encoder."""
        return ENCODER if is_manifest(self.manifest, ENCODER) else "adapter"


@dataclass(slots=True)
class Comparison:
    """Lines on what differs, and on what could not be compared; what the card's code printed."""

    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    printed: str | None = None


def main(repo_id: str, revision: str, result: Path) -> None:
    """Reproduce what a repository at a commit claims, and write what differed."""
    try:
        with hub_errors(f"The adapter {repo_id}"):
            found = _reproduced(repo_id, revision)
    except ToolkitError as error:
        found = {"failed": {"kind": type(error).__name__, "found": error.found, "remedy": error.remedy}}
    write_json(result, found)


def _reproduced(repo_id: str, revision: str) -> dict[str, object]:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo_id, revision=revision))
    missing = [name for name in (MANIFEST, SAMPLES) if not (folder / name).is_file()]
    if missing:
        return {"unusable": f"it holds no {' and no '.join(missing)}"}
    repository = Repository(repo_id, revision, folder, read_json(folder / MANIFEST), read_jsonl(folder / SAMPLES))
    if unusable := _unusable(repository):
        return {"unusable": unusable}
    found = Comparison()
    with reader() as waiting:
        _compare_cards(repository, found)
        _compare_files(repository, found)
        if repository.kind == ENCODER:
            found.differences += other_creatures(repository)
        else:
            found.differences += [*_wrong_base(repository), *_other_names(repository)]
        _run_card(repository, found, waiting)
    return {
        "files": len(repository.manifest["files"]),
        "samples": len(repository.samples),
        **asdict(found),
        "differences": [without_secrets(line) for line in found.differences],
    }


def _unusable(repository: Repository) -> str | None:
    """Why the repository cannot be verified; None: it can."""
    manifest = repository.manifest
    files = manifest.get("files") if is_manifest(manifest, repository.kind) else None
    empty = [name for name, claimed in ((MANIFEST, files), (SAMPLES, repository.samples)) if not claimed]
    if empty:
        return f"there is nothing to compare in its {' and '.join(empty)}"
    needed: dict[str, type] = {"base": dict, "evaluation_precision": dict, "recipe": dict}
    needed |= {"scale": float, "answers": int} if repository.kind == ENCODER else {"stop_tokens": list}
    absent = [key for key, kind in needed.items() if not isinstance(manifest.get(key), kind)]
    return f"its {MANIFEST} names no {' and no '.join(absent)}" if absent else None


def _compare_cards(repository: Repository, found: Comparison) -> None:
    """Cards against the files beside them; a card that the manifest calls edited may say what its author likes."""
    known, there = repository.manifest.get(EDITED) or {}, file_hashes(repository.folder)
    edited = [name for name, digest in known.items() if there.get(name) == digest]
    found.notes += [f"{name} was edited by hand before it was published" for name in edited]
    for line in cards.card_differences(repository.folder, repository.id):
        if line.startswith(tuple(edited)):
            found.notes.append(f"in it, {line}")
        else:
            found.differences.append(line)


def _compare_files(repository: Repository, found: Comparison) -> None:
    """Files against the manifest. An unnamed one is a difference if it would be loaded or run, else a note."""
    there, named = file_hashes(repository.folder), repository.manifest["files"]
    for name, digest in named.items():
        if name not in there:
            found.differences.append(f"{name}: missing")
        elif there[name] != digest:
            found.differences.append(f"{name}: not the file that the manifest names")
    for name in sorted(there.keys() - named.keys() - {".gitattributes"}):
        pickled = is_pickle(repository.folder / name)
        if pickled or name.endswith(".safetensors"):
            found.differences.append(f"{name}: {'a pickle' if pickled else 'weights'} that the manifest does not name")
        else:
            found.notes.append(f"{name} is not named by the manifest, and was not checked")


def _wrong_base(repository: Repository) -> list[str]:
    """Whether `adapter_config.json`, which decides what is loaded, names the base of the manifest at its commit."""
    config, base = read_json(repository.folder / ADAPTER_CONFIG), repository.manifest["base"]
    found = config.get("base_model_name_or_path"), config.get("revision")
    if found == (base["id"], base["revision"]) and is_hub_id(str(base["id"])):
        return []
    return [f"{ADAPTER_CONFIG}: its base is not the repository and commit that the manifest names"]


def other_creatures(repository: Repository) -> list[str]:
    """Samples for which the encoder does not find the same creatures again."""
    opened = encoders.open_encoder(repository.folder)
    differences = []
    for sample in repository.samples:
        identified = encoders.identify(opened, sample["description"], len(sample["identified"]))
        found, claimed = (
            ", ".join(each) for each in ([one.name for one in identified.candidates], sample["identified"])
        )
        if found != claimed:
            differences.append(f"sample {sample['id']}: published {claimed}; reproduced {found}")
    return differences


def _other_names(repository: Repository) -> list[str]:
    """Samples whose names the adapter does not give again."""
    manifest, revision = repository.manifest, repository.revision
    precision = manifest["evaluation_precision"]
    in_nf4 = precision["base"] == "nf4"
    unused = () if in_nf4 or may_be_quantized(repository.folder) else imports.UNUSED
    with imports.quick_imports(without=unused):
        import torch
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoTokenizer

        dtype = getattr(torch, precision["compute"])
        nf4 = nf4_config(dtype, str(manifest["base"]["architecture"])) if in_nf4 else None
        held = {"dtype": dtype, **({"quantization_config": nf4} if nf4 else {})}
        model = AutoPeftModelForCausalLM.from_pretrained(repository.id, revision=revision, **held).eval()
        tokenizer = AutoTokenizer.from_pretrained(repository.id, revision=revision)
    settings = DecodingSettings.model_validate(manifest["recipe"]["decoding"])
    evaluation = read_json(repository.folder / EVALUATION)
    # Sampled names are the same only where the random numbers are.
    seed = evaluation["seed"] if evaluation["machine"] == drawing_machine() else None
    # What new names are none of: not said by older adapters, and unknown where another dataset was measured on.
    taken, same = repository.folder / TAKEN_NAMES, evaluation["dataset"]["content"] == manifest["dataset"]["content"]
    known = known_names(tokenizer, read_json(taken)) if same and taken.is_file() else None
    differences = []
    for number, sample in enumerate(repository.samples):
        asked = in_columns(model, [prompt_ids(tokenizer, sample["messages"])])
        names = generate.greedy_names(asked, tokenizer, settings)
        claimed = [sample["greedy"]]
        if seed is not None:
            (drawn,) = generate.sample(asked, tokenizer, settings, len(sample["names"]), [seed + number])
            names += [each.name for each in drawn]
            claimed += sample["names"]
            if known is not None and (new := sample.get("new_names")):
                (drawn,) = sample_new(asked, tokenizer, settings, len(new), [seed + number], known)
                names += [each.name for each in drawn]
                claimed += new
        if names != claimed:
            differences.append(f"sample {sample['id']}: published {', '.join(claimed)}; reproduced {', '.join(names)}")
    return differences


# The card's own code.


def _run_card(repository: Repository, found: Comparison, waiting: subprocess.Popen[str]) -> None:
    """Run the code of the card, unless somebody else wrote it."""
    card, samples = repository.folder / CARD, repository.samples
    code = python_code(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    if code is None:
        found.differences.append(f"{CARD}: it has no Python code")
    elif not is_ours(code, repository.manifest, samples, repository.id):
        found.notes.append(f"the code of {CARD} is not what this version of pkt writes, and was not run")
    else:
        printed, last_error = run_code(waiting, code, repository.id, repository.revision)
        if printed is None:
            found.differences.append(f"{CARD}: its code fails with {last_error}")
        elif not printed:
            found.differences.append(f"{CARD}: its code prints no name")
        elif "do_sample=True" not in code and printed != samples[0]["greedy"]:
            found.differences.append(f"{CARD}: its code prints {printed}, where {SAMPLES} says {samples[0]['greedy']}")
        elif known := _known_among(printed.split("\n")[1:], repository.folder):
            found.differences.append(f"{CARD}: its code gives {known} for a new name, which is one of its dataset")
        else:
            found.printed = printed


def _known_among(names: Sequence[str], folder: Path) -> str | None:
    files = (file for file in (folder / ANSWERS, folder / TAKEN_NAMES) if file.is_file())
    known = {str(name).casefold() for file in files for name in read_json(file)}
    return next((name for name in names if name.casefold() in known), None)


def python_code(card: str) -> str | None:
    """The code of a card: its first two Python blocks, of which the second goes on from the first."""
    blocks = (token for token in MarkdownIt("commonmark").parse(card) if token.type == "fence")
    code = [token.content.rstrip("\n") for token in blocks if token.info.strip() == "python"][:2]
    return "\n\n".join(code) or None


def is_ours(code: str, manifest: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], repo_id: str) -> bool:
    """Whether code is what this toolkit writes from the files beside the card.

    The manifest is as foreign as the code, so its values are checked before they become part of the expected code.
    """
    if is_manifest(manifest, ENCODER):
        return cards.encoder_snippet(samples, repo_id) == code
    precision = manifest["evaluation_precision"]
    if precision["compute"] not in DTYPES or not isinstance(precision["base"], str):
        return False
    decoding = DecodingSettings.model_validate(manifest["recipe"]["decoding"]).model_dump(mode="json")
    known = {**manifest, "recipe": {**manifest["recipe"], "decoding": decoding}}
    ours = cards.usage_snippet(known, samples, list(map(str, manifest["stop_tokens"])), repo_id)
    return f"{ours}\n\n{cards.new_names_snippet(known)}" == code


@contextmanager
def reader() -> Iterator[subprocess.Popen[str]]:
    """Start a process, offline and without this toolkit, that imports its libraries while this one works."""
    kept = {key: value for key, value in os.environ.items() if key not in ("HF_TOKEN", "PYTHONPATH")}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", READER],
        env=kept | {"HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as waiting:
        try:
            yield waiting
        finally:
            waiting.kill()


def run_code(waiting: subprocess.Popen[str], code: str, repo_id: str, revision: str) -> tuple[str | None, str]:
    """Run the code of a card in a process of `reader`, on the files that this one downloaded.

    Returns its output, or None when it failed; and the last line of its errors.
    """
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    # In the cache this commit becomes the newest, which code without a revision asks for.
    ref = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(revision, encoding="utf-8")
    printed, errors = waiting.communicate(code)
    return (printed.strip() if waiting.returncode == 0 else None), errors.strip().split("\n")[-1]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
