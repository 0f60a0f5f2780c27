"""What the rows of the training split teach, as examples for each step: the name, and what else the recipe asks for.

A description can be seen anew at every visit. Seed, step and row decide how, so a run that goes on, and one of several
processes, sees the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from toolkit.core import Note
from toolkit.core.errors import InputError, after_saying
from toolkit.core.recipe import Recipe, TrainingSettings
from toolkit.data.dataset import Row, answer_of, description_of
from toolkit.model import chat
from toolkit.model.chat import Example
from toolkit.model.chat_template import Messages, with_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Where a clause ends: English and Korean write the same signs, and some Korean texts the two East Asian ones.
CLAUSE_END = re.compile(r"(?<=[.!?;,])\s+|(?<=[。、])\s*")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One kind of conversation that is made of a row.

    Attributes:
        column: Name of its loss in the training log.
        weight: What its loss, the mean over its own supervised tokens, counts for in a step's gradients.
        examples: By row, of the description as the dataset holds it; a row that has no such example is not there.
        seen: Row and random numbers in, the row's example at this visit out.
        labels: By row, the number of its answer among all, where these are contrasted (`contrast.py`).
    """

    column: str
    weight: float
    examples: Mapping[int, Example]
    seen: Callable[[int, Random], Example]
    labels: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of one lesson in one step: the column and weight of their loss, and their answers' numbers, if any."""

    column: str
    weight: float
    examples: Sequence[Example]
    labels: Sequence[int] = ()


def prepare_lessons(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], recipe: Recipe, note: Note
) -> list[Lesson]:
    """The lessons of a recipe; the first is the name, whose loss the log calls `loss`.

    Raises:
        InputError: As `encode_rows`.
    """
    settings = recipe.training
    texts = {number: text for number, row in enumerate(rows) if (text := _text_in_question(row))}
    if len(texts) < len(rows) and (settings.augmentation or settings.way_back):
        note(
            f"{len(rows) - len(texts):,} of {len(rows):,} rows of train do not hold their description word for word in "
            "their question: they are seen as they are."
        )

    def lesson(
        column: str, weight: float, told: Mapping[int, Messages], tell: Callable[[Row, str], Messages], label: str
    ) -> Lesson:
        plain = encode_rows(tokenizer, told, settings.max_length, label)

        def seen(row: int, generator: Random) -> Example:
            text = texts.get(row, "")
            if (drawn := seen_anew(text, settings, generator)) != text:
                # A template may join its last sign with the first of a clause into one token.
                with suppress(InputError):
                    example = chat.encode(tokenizer, tell(rows[row], drawn))
                    if len(example.input_ids) <= settings.max_length:
                        return example
            return plain[row]

        return Lesson(column, weight, plain, seen)

    names = lesson("loss", 1.0, {n: row["messages"] for n, row in enumerate(rows)}, _naming, "train")
    if settings.contrast:
        numbers = {answer: number for number, answer in enumerate(answers_of(rows))}
        names = replace(names, labels={n: numbers[answer_of(row)] for n, row in enumerate(rows)})
    lessons = [names]
    if settings.way_back and texts:
        told = {number: _way_back(rows[number], text) for number, text in texts.items()}
        lessons.append(lesson("way_back_loss", settings.way_back, told, _way_back, "train (name to description)"))
    return lessons


def encode_rows(
    tokenizer: PreTrainedTokenizerBase, conversations: Mapping[int, Messages], max_length: int, label: str
) -> dict[int, Example]:
    """Conversations as token ids, by the number of their row.

    Raises:
        InputError: One is longer than `max_length`, or as `chat.encode`; `label` says of what.
    """
    examples = {}
    for number, messages in conversations.items():
        with after_saying(f"Row {number} of {label}:"):
            example = chat.encode(tokenizer, messages)
            chat.check_beginning(tokenizer, example.input_ids)
        if len(example.input_ids) > max_length:
            raise InputError(
                f"Row {number} of {label} has {len(example.input_ids)} tokens, more than max_length = {max_length}.",
                "Raise `training.max_length`, or build the dataset with a smaller `dataset.max_characters`.",
            )
        examples[number] = example
    return examples


def answers_of(rows: Sequence[Row]) -> list[str]:
    """The distinct answers, sorted."""
    return sorted(set(map(answer_of, rows)))


def draw(lessons: Sequence[Lesson], rows: Sequence[int], seed: int, step: int) -> list[Batch]:
    """The examples of some rows in the step after `step` others, by lesson; lessons without one are left out."""
    visits, batches = [(row, Random(f"{seed}/{step}/{row}")) for row in rows], []
    for lesson in lessons:
        examples = [lesson.seen(row, numbers) for row, numbers in visits if row in lesson.examples]
        labels = [lesson.labels[row] for row in rows if lesson.labels]
        batches.append(Batch(lesson.column, lesson.weight, examples, labels))
    return [batch for batch in batches if batch.examples]


def seen_anew(text: str, settings: TrainingSettings, generator: Random) -> str:
    """A description as it is, or, with the probability `augmentation`, some of its clauses and words in another order.

    Clauses are left out and shuffled as wholes (at least one stays), words are left out where they stand.
    """
    if not text or generator.random() >= settings.augmentation:
        return text
    clauses = [clause for clause in CLAUSE_END.split(text) if clause]
    kept = [clause for clause in clauses if generator.random() >= settings.clause_dropout]
    kept = kept or [generator.choice(clauses)]
    generator.shuffle(kept)
    if settings.word_dropout:
        words = " ".join(kept).split()
        kept = [word for word in words if generator.random() >= settings.word_dropout] or words
    return " ".join(kept)


def _text_in_question(row: Row) -> str | None:
    """The description, where the question before the answer holds it word for word."""
    question, text = row["messages"][-2], description_of(row)
    return text if text.strip() and question["role"] == "user" and text in question["content"] else None


def _naming(row: Row, text: str) -> Messages:
    """The row's own conversation with another text in place of its description."""
    *before, question, answer = row["messages"]
    head, _, tail = question["content"].rpartition(description_of(row))
    return [*before, {"role": "user", "content": f"{head}{text}{tail}"}, answer]


def _way_back(row: Row, text: str) -> Messages:
    """The conversation that asks for the description of the row's name; a system turn stays."""
    first = row["messages"][0]
    system = first["content"] if first["role"] == "system" else None
    return with_answer(chat.naming_messages(answer_of(row), chat.WAY_BACK, system), text)
