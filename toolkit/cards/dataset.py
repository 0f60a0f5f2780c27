"""The dataset card: counts and the build's facts in, `README.md` and its plots out."""

from __future__ import annotations

from pathlib import Path

from toolkit import __version__
from toolkit.cards import dataset_facts, usage
from toolkit.cards.dataset_facts import DatasetCounts, Facts
from toolkit.cards.dataset_plots import lengths_plot, rows_plot
from toolkit.cards.escape import fence, md_text
from toolkit.cards.labels import ANSWERS
from toolkit.cards.metadata import Manifest, dataset_front_matter
from toolkit.cards.templates import DATASET, render
from toolkit.core.folder import read_json
from toolkit.core.layout import CARD, FIGURES, VALIDATION, split_files

TEMPLATE = "dataset_card.md.jinja"
EXAMPLE_CHARACTERS = 2_000


def render_dataset_card(folder: Path, counts: DatasetCounts, facts: Manifest) -> None:
    """Draw the plots and write `README.md` of a dataset folder.

    Args:
        folder: Holds the Parquet files of the splits and, when it was validated, `validation.json`.
        counts: What the Parquet files hold.
        facts: What the build knows, as `manifest.json` will hold it, with the `content` hash of the rows and
            `min_clusters`, the fewest groups that a split is dealt from.

    Raises:
        InputError: `validation.json` is damaged.
    """
    plots: dict[str, str | None] = {}
    for name in ("lengths", "rows"):
        path = folder / FIGURES / f"{name}.png"
        # Remove a plot of earlier rows.
        path.unlink(missing_ok=True)
        seen = lengths_plot(counts.whole().lengths, path) if name == "lengths" else rows_plot(counts, path)
        plots[name] = md_text(seen) if seen else None
    card = render(TEMPLATE, {**_card_facts(folder, facts, counts), "figures": plots}, package=DATASET)
    (folder / CARD).write_text(card, encoding="utf-8")


def _card_facts(folder: Path, facts: Manifest, counts: DatasetCounts) -> Facts:
    """All that the card says, apart from its plots."""
    title = "Pokémon names from descriptions" if facts["pokemon"] else "Names from descriptions"
    rows = {name: split.rows for name, split in counts.splits.items()}
    validation = folder / VALIDATION
    return {
        "front_matter": dataset_front_matter(facts, rows, list(counts.languages), title),
        "title": title,
        "pokemon": facts["pokemon"],
        "content": dataset_facts.content_facts(counts),
        "answer": dict(zip(("english", "korean"), ANSWERS[facts["settings"]["answer"]], strict=True)),
        "example": _example(folder),
        "sources": dataset_facts.source_facts(facts["sources"], counts),
        "making": dataset_facts.making_facts(facts, counts),
        "held_out": dataset_facts.held_out_facts(counts),
        "validation": dataset_facts.validation_facts(read_json(validation) if validation.is_file() else None),
        "licenses": dataset_facts.license_facts(counts.licenses),
        "citation": fence(usage.dataset_citation(facts, title), "bibtex"),
        "toolkit": __version__,
    }


def _example(folder: Path) -> str:
    """The first row of train as a fenced conversation."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(split_files(folder, folder.name)["train"][0]) as file:
        (first,) = next(file.iter_batches(1, columns=["messages"]))["messages"].to_pylist()
    return fence("\n\n".join(f"{turn['role']}:\n{turn['content'][:EXAMPLE_CHARACTERS]}" for turn in first), "text")
