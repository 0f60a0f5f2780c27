"""The dataset card from a folder's own files: Parquet, validation and the build's facts in, README and figures out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from toolkit import __version__
from toolkit.cards.dataset.facts import (
    DatasetCounts,
    content_facts,
    held_out_facts,
    license_facts,
    making_facts,
    source_facts,
    validation_facts,
)
from toolkit.cards.dataset.metadata import front_matter
from toolkit.cards.dataset.plots import lengths_plot, rows_plot
from toolkit.cards.dataset.words import ANSWERS
from toolkit.cards.escape import fence, md_text, plain
from toolkit.core.folder import read_json
from toolkit.core.layout import VALIDATION, split_files

TEMPLATE = "dataset_card.md.jinja"
EXAMPLE_CHARACTERS = 2_000
LOADING = """from datasets import load_dataset

dataset = load_dataset("OWNER/NAME")
for turn in dataset["train"][0]["messages"]:
    print(turn["role"], turn["content"], sep=": ")"""
TRAINING = """pkt validate OWNER/NAME
pkt train OWNER/NAME adapter
pkt evaluate adapter OWNER/NAME"""


def render_dataset_card(folder: Path, counts: DatasetCounts, facts: Mapping[str, Any]) -> None:
    """Draw the figures and write `README.md` of a dataset folder.

    Args:
        folder: Holds the Parquet files of the splits and, when it was validated, `validation.json`.
        counts: What the Parquet files hold.
        facts: What the build knows, as `manifest.json` will hold it, with the `content` hash of the rows and
            `min_clusters`, the fewest groups that a split is dealt from.

    Raises:
        InputError: `validation.json` is damaged.
    """
    lengths = counts.whole().lengths
    figures = {
        "lengths": _drawn(folder / "figures" / "lengths.png", lambda path: lengths_plot(lengths, path)),
        "rows": _drawn(folder / "figures" / "rows.png", lambda path: rows_plot(counts, path)),
    }
    card = render(TEMPLATE, {**card_facts(folder, facts, counts), "figures": figures})
    (folder / "README.md").write_text(card, encoding="utf-8")


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of `dataset_cards/` filled with facts; a fact that is not there is an error."""
    environment = Environment(
        loader=FunctionLoader(
            lambda name: (files("toolkit.cards.dataset_templates") / name).read_text(encoding="utf-8")
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(facts)


def _drawn(path: Path, draw: Callable[[Path], str | None]) -> str | None:
    """What a figure shows; one of other rows does not outlive them."""
    path.unlink(missing_ok=True)
    seen = draw(path)
    return md_text(seen) if seen else None


def card_facts(folder: Path, facts: Mapping[str, Any], counts: DatasetCounts) -> dict[str, Any]:
    """All that the card says, apart from its figures."""
    title = "Pokémon names from descriptions" if facts["pokemon"] else "Names from descriptions"
    rows = {name: split.rows for name, split in counts.splits.items()}
    validation = folder / VALIDATION
    return {
        "front_matter": front_matter(facts, rows, list(counts.languages), title),
        "title": title,
        "pokemon": facts["pokemon"],
        "content": content_facts(counts),
        "answer": dict(zip(("english", "korean"), ANSWERS[facts["settings"]["answer"]], strict=True)),
        "example": _example(folder),
        "sources": source_facts(facts["sources"], counts),
        "making": making_facts(facts, counts),
        "held_out": held_out_facts(counts),
        "validation": validation_facts(read_json(validation) if validation.is_file() else None),
        "licenses": license_facts(counts.licenses),
        "loading": fence(LOADING, "python"),
        "training": fence(TRAINING, "bash"),
        "citation": fence(_citation(facts, title), "bibtex"),
        "toolkit": __version__,
    }


def _example(folder: Path) -> str | None:
    """The first row of train, as a fenced conversation; None when it is none."""
    import pyarrow.parquet

    for path in split_files(folder, "train")[:1]:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(1, columns=["messages"]) for row in batch.to_pylist())
            first: dict[str, Any] = next(rows, {})
        messages = first.get("messages")
        if isinstance(messages, list) and all(map(_is_turn, messages)):
            turns = (f"{turn['role']}:\n{turn['content'][:EXAMPLE_CHARACTERS]}" for turn in messages)
            return fence("\n\n".join(turns), "text")
    return None


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))


def _citation(facts: Mapping[str, Any], title: str) -> str:
    """BibTeX that names exactly these rows. The year is the reader's to add: a build knows no clock."""
    recipe = re.sub(r"[\\{}%#$&~^_\s]+", " ", plain(facts["recipe"], 80)).strip()
    accented = title.replace("é", "{\\'e}")
    return f"""@misc{{names_from_descriptions,
  title = {{{{{accented}}}}},
  howpublished = {{\\url{{https://huggingface.co/datasets/OWNER/NAME}}}},
  note = {{Built with PokePicker Toolkit {__version__}, recipe {recipe}, seed {facts["seed"]}; SHA-256 of its rows:
    {facts["content"]}}}
}}"""
