"""A dataset built and validated: time and peak memory by size, beside the seed's way and an all-pairs comparison.

Every run is a command of its own, so that its peak memory is its own. Ratios and growth are of processor seconds, which
other work on the machine changes least. A table is made of random words in Zipf's proportions: 20 descriptions a
creature, two creatures a family; a tenth of the descriptions say their creature's name, a tenth another's, and one in
fifty is a near-duplicate of the one before it.
`python benchmarks/build_dataset.py [--rows 100000 --rows 1000000] [--pokeapi FOLDER]`
"""

import contextlib
import csv
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy
import psutil

PER_CREATURE = 20
WORDS = 30_000


@click.command()
@click.option("--rows", multiple=True, type=int, default=(100_000, 1_000_000), help="Sizes of the generated table.")
@click.option("--pairs", default=10_000, show_default=True, help="Rows of which all pairs are compared.")
@click.option("--pokeapi", type=click.Path(path_type=Path), help="Folder of PokéAPI's tables, if they are at hand.")
@click.option("--way", type=click.Choice(["seed", "all-pairs"]), hidden=True)
@click.option("--table", type=click.Path(path_type=Path), hidden=True)
def main(rows: tuple[int, ...], pairs: int, pokeapi: Path | None, way: str | None, table: Path | None) -> None:
    """Build and validate each size, and print what it took."""
    if way:
        {"seed": seeds_way, "all-pairs": all_pairs}[way](table)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if pokeapi:
            source = ["--source", "pokeapi", "--from", str(pokeapi), "--description-language", "en,ko"]
            measure_pkt("PokéAPI, English and Korean", source, folder / "pokeapi")
        took = [(count, measure_size(count, folder)) for count in sorted(rows)]
        for (small, first), (large, second) in pairwise(took):
            exponent = math.log(second / first) / math.log(large / small)
            click.echo(f"from {small:,} to {large:,} rows, time grows as n^{exponent:.2f}")
        compare_pairs(pairs, folder)


def compare_pairs(count: int, folder: Path) -> None:
    """Print what comparing all pairs of so many rows takes, beside our whole build and validation of them."""
    table = folder / "pairs.csv"
    write_table(table, count)
    ours = measure_pkt(f"{count:,} rows", table_source(table), folder / "pairs")
    theirs = child("all-pairs", table)
    click.echo(
        f"{count:,} rows, all pairs compared and nothing else: {theirs}, {theirs.processor / ours:.1f} times "
        f"our whole build and validation; a million rows have {(1_000_000 / count) ** 2:,.0f} times the pairs"
    )


def measure_size(count: int, folder: Path) -> float:
    """Processor seconds of building and validating a generated table; prints the seed's way beside it."""
    table = folder / f"{count}.csv"
    write_table(table, count)
    ours = measure_pkt(f"{count:,} rows", table_source(table), folder / str(count))
    theirs = child("seed", table)
    click.echo(
        f"{count:,} rows, the seed's way (datasets.map, a regular expression a row; no cleaning, splits, duplicates, "
        f"validation): {theirs}; ours takes {ours / theirs.processor:.1f} times as long"
    )
    table.unlink()
    return ours


def table_source(table: Path) -> list[str]:
    return ["--source", "table", "--from", str(table)]


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of the processor, and the peak of memory in MB, of a command's processes together."""

    wall: float
    processor: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.processor:.1f} s of the processor, {self.memory:,.0f} MB)"


def measure_pkt(what: str, source: list[str], out: Path) -> float:
    """Run both commands, print what they took, and return their processor seconds together."""
    build = timed([sys.executable, "-m", "toolkit", "build-dataset", str(out), *source, "--json"])
    check = timed([sys.executable, "-m", "toolkit", "validate", str(out), "--json"])
    facts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    click.echo(
        f"{what}: {facts['read']:,} read, {sum(facts['splits'].values()):,} kept; built with its validation in "
        f"{build}, validated once more in {check}"
    )
    return build.processor + check.processor


def child(way: str, table: Path) -> Took:
    return timed([sys.executable, __file__, "--way", way, "--table", str(table)])


def timed(command: list[str]) -> Took:
    """Run a command that must succeed; of its processes, some of which are children of others, processor time and
    proportional memory are looked at twenty times a second, and the seconds of each and the peak of their sum count."""
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: dict[psutil.Process, float] = {}
    peak = 0
    while process.poll() is None:
        memory = 0
        with contextlib.suppress(psutil.Error):
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    seconds[each] = sum(each.cpu_times()[:2])
                    memory += each.memory_full_info().pss
        peak = max(peak, memory)
        time.sleep(0.05)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} exited with {process.returncode}.")
    return Took(time.perf_counter() - started, sum(seconds.values()), peak / 1e6)


def write_table(path: Path, count: int) -> None:
    """A table of `count` rows with the columns name, family and description."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "family", "description"])
        writer.writerows(generated(count))


def generated(count: int) -> Iterator[tuple[str, str, str]]:
    """Name, family and description of each row; the creatures take turns."""
    rng = numpy.random.default_rng(0)
    words = numpy.array(syllables(rng, WORDS))
    creatures = max(2, count // PER_CREATURE)
    names = [f"{word.capitalize()}x" for word in syllables(rng, creatures, longest=5)]
    frequency = numpy.cumsum(1 / numpy.arange(1, WORDS + 1))
    before: list[str] = []
    for number in range(count):
        creature = number % creatures
        places = numpy.searchsorted(frequency, rng.random(rng.integers(15, 30)) * frequency[-1])
        text = words[places].tolist()
        if number % 50 == 49:
            text = [*before[:-1], text[0]]
        if number % 10 == 3:
            text.insert(1, names[creature])
        elif number % 10 == 7:
            text.insert(1, names[rng.integers(creatures)])
        before = text
        yield names[creature], f"family-{creature // 2}", f"{' '.join(text).capitalize()}."


def syllables(rng: numpy.random.Generator, count: int, longest: int = 4) -> list[str]:
    """Different words of two to `longest` syllables, none of them ending in x."""
    made: dict[str, None] = {}
    while len(made) < count:
        onsets = rng.choice(list("bdfgklmnprstvz"), size=longest)
        vowels = rng.choice(["a", "e", "i", "o", "u", "ai", "or", "en"], size=longest)
        made["".join(a + b for a, b in zip(onsets, vowels, strict=True))[: rng.integers(4, 3 * longest)]] = None
    return list(made)


def seeds_way(table: Path) -> None:
    """The notebook's preparation: one map, the name replaced wherever its letters occur, a raw string as the prompt."""
    import datasets

    def prepare(row):
        description = re.sub(re.escape(row["name"]), "it", row["description"], flags=re.IGNORECASE)
        return {
            "text": f"다음 특성을 살린 포켓몬식 이름을 지어줘:\\n\\n{description} model 포켓몬식 이름: {row['name']}"
        }

    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("csv", data_files=str(table), split="train", cache_dir=cache)
        rows.map(prepare, load_from_cache_file=False).to_parquet(f"{cache}/out.parquet")


def all_pairs(table: Path) -> None:
    """Near-duplicates by the Jaccard similarity of the words of every pair."""
    with table.open(encoding="utf-8", newline="") as stream:
        texts = [frozenset(row["description"].casefold().split()) for row in csv.DictReader(stream)]
    found = 0
    for number, one in enumerate(texts):
        for other in texts[:number]:
            shared = len(one & other)
            found += shared >= 0.7 * (len(one) + len(other) - shared)
    click.echo(found)


if __name__ == "__main__":
    main()
