"""Near-duplicates by number of texts: processor time, peak memory, pairs compared, and what is found of all pairs.

The texts are random words in Zipf's proportions, all different; one in twenty is a copy of an earlier one with some
words replaced, so that pairs of every similarity occur, and for any number of texts it is known which should be found.
Every size runs in a process of its own, on one core, so that no time is spent elsewhere. Time is the processor's; a
power of the number of texts is fitted to it and to the pairs, and taken further to `--further`.
`python benchmarks/near_duplicates.py [--texts 10000 --texts 100000 --texts 1000000]`
"""

import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from resource import RUSAGE_SELF, getrusage

import click
import numpy
import pyarrow
from build_dataset import WORDS, syllables
from scipy.sparse import csr_array

from toolkit.data import duplicates
from toolkit.data.batches import LocalEngine

THRESHOLD = 0.7
# Rows of the table of all pairs that are held at once.
AT_ONCE = 500


@click.command()
@click.option("--texts", multiple=True, type=int, default=(10_000, 100_000, 1_000_000), help="Numbers of texts.")
@click.option("--pairs", default=10_000, show_default=True, help="Texts of which all pairs are compared.")
@click.option("--further", default=1_000_000_000, show_default=True, help="Number of texts to extrapolate to.")
@click.option("--one", type=int, hidden=True)
def main(texts: tuple[int, ...], pairs: int, further: int, one: int | None) -> None:
    """Cluster each number of texts, and print what it took."""
    if one:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        click.echo(json.dumps(measure(one)))
        return
    took = {count: in_a_process(count) for count in sorted(texts)}
    for count, figures in took.items():
        click.echo(f"{count:,} texts: " + ", ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
    for what in ("seconds", "compared"):
        for (small, before), (large, after) in pairwise(took.items()):
            power = math.log(after[what] / before[what]) / math.log(large / small)
            click.echo(
                f"{what} from {small:,} to {large:,}: n^{power:.3f}; so {further:,}: "
                f"{after[what] * (further / large) ** power:,.3g}"
            )
    # Last: a process that is started has the peak of this one as its own.
    found, of = recall(pairs)
    click.echo(f"{pairs:,} texts: {found:,} of the {of:,} pairs of similarity {THRESHOLD} or more share a cluster")


def in_a_process(count: int) -> dict[str, float]:
    child = subprocess.run([sys.executable, __file__, "--one", str(count)], capture_output=True, check=True, text=True)
    return json.loads(child.stdout)


def measure(count: int) -> dict[str, float]:
    """Processor seconds and peak MB of clustering so many texts, pairs compared, and copies that were found."""
    (texts, copies), compared, exactly = different(count), 0, duplicates._similarity

    def counting(one: str, other: str) -> float:
        nonlocal compared
        compared += 1
        return exactly(one, other)

    duplicates._similarity = counting
    memory, before = peak(), seconds()
    clusters = clusters_of(texts)
    took, most = seconds() - before, peak()
    near = [(a, b) for a, b in copies if exactly(texts[a], texts[b]) >= THRESHOLD]
    return {
        "seconds": took,
        "MB before": memory,
        "MB at the peak": most,
        "compared": compared,
        "near copies": len(near),
        "of them found": sum(bool(clusters[a] == clusters[b]) for a, b in near),
        "places in crowded buckets": crowded(texts),
    }


def clusters_of(texts: list[str]) -> numpy.ndarray:
    digests = numpy.array([duplicates.text_digest(text) for text in texts])
    return duplicates.cluster_texts(LocalEngine(), pyarrow.table({"text": texts}), "text", digests, THRESHOLD)


def crowded(texts: list[str]) -> float:
    """Share of all places of texts in buckets of words that are in one with more texts than each is compared with."""
    digests = numpy.asarray(duplicates.digest_words(texts).to_rows(), dtype=numpy.uint32).astype(numpy.uint16)
    bands, places = digests.view(numpy.uint64), 0
    for keys in bands.T:
        sizes = numpy.unique(keys, return_counts=True)[1]
        places += int(sizes[sizes > duplicates.NEIGHBOURS + 1].sum())
    return places / bands.size


def seconds() -> float:
    usage = getrusage(RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak() -> float:
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


def different(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """So many texts of 15 to 29 words, one in twenty a copy with up to four tenths of its words replaced; of which."""
    rng = numpy.random.default_rng(0)
    words = numpy.array(syllables(rng, WORDS))
    frequency = numpy.cumsum(1 / numpy.arange(1, WORDS + 1))
    made: dict[str, int] = {}
    copies, last = [], words[:1]
    while len(made) < count:
        drawn = words[numpy.searchsorted(frequency, rng.random(rng.integers(15, 30)) * frequency[-1])]
        if copy := len(made) % 20 == 19:
            drawn = numpy.resize(drawn, len(last))
            drawn = numpy.where(rng.random(len(last)) < rng.random() * 0.4, drawn, last)
        number = made.setdefault(" ".join(drawn), len(made))
        if copy and number == len(made) - 1:
            copies.append((number - 1, number))
        last = drawn
    return list(made), copies


def recall(count: int) -> tuple[int, int]:
    """Pairs that are near-duplicates by their words or by their runs of letters, and those that share a cluster."""
    texts, _ = different(count)
    clusters = clusters_of(texts)
    views = [table(texts, duplicates._words), table(texts, duplicates._runs)]
    near = together = 0
    for start in range(0, count, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        alike = numpy.zeros((len(texts[rows]), count), dtype=bool)
        for view in views:
            shared, sizes = (view[rows] @ view.T).toarray(), view.sum(axis=1)
            alike |= shared >= THRESHOLD * (sizes[rows, None] + sizes - shared) - 1e-9
        left, right = numpy.nonzero(numpy.triu(alike, start + 1))
        near += len(left)
        together += int((clusters[start + left] == clusters[right]).sum())
    return together, near


def table(texts: list[str], tokens) -> csr_array:
    """Which text has which token: ones, `[texts, tokens]`."""
    numbers: dict[str, int] = {}
    columns = [numbers.setdefault(token, len(numbers)) for text in texts for token in sorted(tokens(text))]
    ends = numpy.cumsum([0, *(len(tokens(text)) for text in texts)])
    return csr_array((numpy.ones(len(columns), dtype=numpy.int32), columns, ends), shape=(len(texts), len(numbers)))


if __name__ == "__main__":
    main()
