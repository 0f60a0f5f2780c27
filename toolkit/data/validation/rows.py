"""The rows of a dataset file, the texts of each conversation, and the checks of one row by itself.

The prompts of other people's datasets hold a request that many rows share: a system turn, or lines before or after the
description. It is learnt from a sample, so that descriptions are compared without it.
"""

from __future__ import annotations

import os.path
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple

from ftfy.badness import is_bad

from toolkit.core.answers import ANSWER_LANGUAGES, LONGEST_ANSWER_NAME, Names, fold, names_in
from toolkit.core.errors import InputError
from toolkit.core.text import BIDI, INVISIBLE, control_token, fits_language, has_hangul
from toolkit.data.dataset import parquet_of
from toolkit.data.duplicates import text_digest
from toolkit.data.masking import ORDINARY_WORDS, own_names_in, spellings
from toolkit.data.near_names import near_name
from toolkit.data.validation.comparisons import ComparedRow
from toolkit.data.validation.files import CHECKED_COLUMNS, Shard, damage_found
from toolkit.data.validation.findings import FIRST_PLACES, Findings, excerpt
from toolkit.model import chat

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1_000
NEVER_NULL = tuple(name for name in CHECKED_COLUMNS if not name.startswith("name_"))

# A line is a request when this many rows and this share of a sample have it, with different texts beside it.
FEWEST_SHARING = 3
SHARE = 0.01
# A request in one paragraph with the description; fewer texts begin alike by chance.
FEWEST_FOR_PREFIX = 8

Add = Callable[[str, str, int], None]
"""Called with a code, a text that shows the fault, and its place in the text."""

Fault = tuple[str, str, int]

Line = tuple[str | None, str]
"""The role of a turn, and one line of it."""

_is_korean = lru_cache(maxsize=1_000)(lambda request: fits_language(request, "ko"))


class Turn(NamedTuple):
    """A message; None where the file has null."""

    role: str | None
    content: str | None


@dataclass(slots=True)
class CheckedRow:
    """A row as a file holds it: `number` counts from 0 within the split, `values` are texts by column."""

    number: int
    turns: list[Turn]
    values: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Shared:
    """The request that the prompts of a dataset share: whole lines, and a prefix of all that is left."""

    lines: frozenset[str]
    prefix: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The texts of one row.

    Attributes:
        prompt: The turns before the answer in form NFC, without the assistant's and without what many rows share.
        request: What the user asks for, without the description.
        description: What the answer is about: the row's own column, or all turns before the answer without the request.
        answer: The last turn where it is the assistant's.
    """

    prompt: str
    request: str
    description: str
    answer: str | None


def read_batches(shard: Shard, first: int, found: Findings) -> Iterator[pa.Table]:
    """The rows of a file as far as it can be read, with `split` and `row`; the rest is a finding.

    Args:
        first: The number of its first row within its split.
    """
    import pyarrow as pa
    import pyarrow.parquet

    with (
        damage_found(shard.split, shard.name, shard.path, found),
        pyarrow.parquet.ParquetFile(parquet_of(shard.path)) as file,
    ):
        for batch in file.iter_batches(BATCH_ROWS, columns=["messages", *shard.columns]):
            # Texts that are no UTF-8 are damage too.
            batch.validate(full=True)
            place = {"split": pa.repeat(shard.split, len(batch)), "row": range(first, first + len(batch))}
            yield pa.table(place | {name: batch[name] for name in batch.schema.names})
            first += len(batch)


def checked_rows(batch: pa.Table) -> Iterator[CheckedRow]:
    """The rows of a batch."""
    columns = [name for name in batch.column_names if name not in ("messages", "split", "row")]
    turns = _turns(batch["messages"].combine_chunks())
    cells = zip(*(_texts(batch[name]) for name in columns), strict=True)
    values = [dict(zip(columns, row, strict=True)) for row in cells] or [{}] * len(turns)
    return map(CheckedRow, batch["row"].to_pylist(), turns, values)


def _turns(messages: pa.Array) -> list[list[Turn]]:
    """The turns of each row; none where `messages` is null."""
    import pyarrow.compute as compute

    flat = compute.list_flatten(messages)
    roles, contents = (_texts(compute.struct_field(flat, name)) for name in ("role", "content"))
    rows: list[list[Turn]] = [[] for _ in range(len(messages))]
    for row, role, content in zip(compute.list_parent_indices(messages).to_pylist(), roles, contents, strict=True):
        rows[row].append(Turn(role, content))
    return rows


def _texts(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    import pyarrow as pa

    return list((column.cast(pa.string()) if pa.types.is_integer(column.type) else column).to_pylist())


def learn_shared(sample: Iterable[Sequence[Turn]]) -> Shared:
    """The request that a sample of conversations shares."""
    beside: dict[str, set[int]] = defaultdict(set)
    prompts = [_prompt_lines(turns) for turns in sample]
    for prompt in prompts:
        whole = sum(hash(line) for _, line in prompt)
        for _, line in set(prompt) if len(prompt) > 1 else ():
            beside[line].add(whole - hash(line))
    enough = max(FEWEST_SHARING, SHARE * len(prompts))
    lines = frozenset(line for line, others in beside.items() if len(others) >= enough)
    own = list({_joined(_split_prompt(prompt, lines)[0]) for prompt in prompts})
    prefix = os.path.commonprefix(own) if len(own) >= FEWEST_FOR_PREFIX else ""  # noqa: RUF071
    # Up to where a word ends.
    return Shared(lines, re.sub(r"[^ :\n]*\Z", "", prefix))


def _prompt_lines(turns: Sequence[Turn]) -> list[Line]:
    """The lines of all turns before the answer, blank ones left out."""
    before = turns[:-1] if turns[-1].role == "assistant" else turns
    return [(turn.role, text) for turn in before for line in (turn.content or "").split("\n") if (text := line.strip())]


def _split_prompt(prompt: list[Line], shared: frozenset[str]) -> tuple[list[Line], list[Line]]:
    """A row's own lines, and the shared ones before and after them. All are its own where all are shared."""
    own = [place for place, line in enumerate(prompt) if line[1] not in shared]
    if not own:
        return prompt, []
    return prompt[own[0] : own[-1] + 1], prompt[: own[0]] + prompt[own[-1] + 1 :]


def _joined(lines: Iterable[Line]) -> str:
    return "\n".join(line for _, line in lines)


def _read_conversation(row: CheckedRow, turns: Sequence[Turn], shared: Shared) -> Conversation:
    """The texts of a row; its column `description` says which of them is the description where the prompt holds it."""
    own, requests = _split_prompt(_prompt_lines(turns), shared.lines)
    prompt = _joined(line for line in own if line[0] != "assistant").removeprefix(shared.prefix)
    question = next((turn.content or "" for turn in turns if turn.role == "user"), "")
    description = (row.values.get("description") or "").strip()
    if description and description in question:
        request = question.replace(description, "", 1)
    else:
        description = _joined(own).removeprefix(shared.prefix)
        asked = _joined(line for line in requests if line[0] == "user")
        request = f"{asked}\n{shared.prefix}"
    answer = turns[-1].content if turns[-1].role == "assistant" else None
    return Conversation(unicodedata.normalize("NFC", prompt), request.strip(), description.strip(), answer)


@dataclass(frozen=True, slots=True)
class CheckRows:
    """Checks rows by themselves, and says what is compared with other rows.

    Attributes:
        shared: The request of this dataset.
        has_creatures: Whether the dataset has a column `creature`; else a short answer stands for it.
        tokens: `check_tokens` with its first arguments, where a tokenizer is given.
    """

    shared: Shared
    has_creatures: bool
    tokens: Callable[[Sequence[Turn], Add], None] | None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The columns of a `ComparedRow`, its place, and its `faults`: the first of each code have an excerpt."""
        import pyarrow as pa

        rows: list[ComparedRow] = []
        faults: list[list[tuple[str, str]]] = []
        noted = Counter[str]()
        for row in checked_rows(batch):
            own: list[tuple[str, str]] = []

            def add(code: str, text: str, at: int = 0, own: list[tuple[str, str]] = own) -> None:
                noted[code] += 1
                own.append((code, excerpt(text, at) if noted[code] <= FIRST_PLACES else ""))

            rows.append(self._check(row, add))
            faults.append(own)
        kinds = dict.fromkeys(ComparedRow._fields, pa.string())
        kinds |= {"digest": pa.binary(), "unnamed": pa.bool_(), "compared": pa.bool_()}
        columns = zip(kinds.items(), zip(*rows, strict=True) if rows else repeat(()), strict=False)
        compared = {name: pa.array(column, kind) for (name, kind), column in columns}
        kind = pa.list_(pa.struct([("code", pa.string()), ("excerpt", pa.string())]))
        noted_faults = [[{"code": code, "excerpt": text} for code, text in own] for own in faults]
        first = {"split": batch["split"], "row": batch["row"], "faults": pa.array(noted_faults, kind)}
        return pa.table(first | compared)

    def _check(self, row: CheckedRow, add: Add) -> ComparedRow:
        id, family = row.values.get("id"), row.values.get("family")
        missing = [name for name in NEVER_NULL if name in row.values and row.values[name] is None]
        if missing:
            add("schema.null-value", ", ".join(f"`{name}`" for name in missing), 0)
        turns = row.turns
        if not turns or any(turn.role is None and turn.content is None for turn in turns):
            add("schema.null", "", 0)
            return ComparedRow(id)
        if _check_turns(turns, add) and self.tokens:
            self.tokens(turns, add)
        conversation = _read_conversation(row, turns, self.shared)
        _check_columns(row, conversation, add)
        answer = row.values.get("answer") or conversation.answer
        names = _names_of(row, answer)
        near = _check_leak(conversation.prompt, names, add)
        short = answer if len(answer or "") <= LONGEST_ANSWER_NAME else None
        request = conversation.request
        asked = request or f"no request that other rows have: {conversation.prompt}"
        return ComparedRow(
            id,
            conversation.description,
            text_digest(conversation.description),
            answer,
            row.values.get("creature") if self.has_creatures else short,
            family,
            None if _is_korean(request) else excerpt(asked),
            f"{near[1]}: {excerpt(conversation.prompt, near[0])}" if near else None,
            not names.sure,
            compared=True,
        )


def check_tokens(tokenizer: PreTrainedTokenizerBase, max_length: int | None, turns: Sequence[Turn], add: Add) -> None:
    """Check that a base's chat template renders a conversation as training needs it, in at most so many tokens."""
    messages = [{"role": turn.role or "", "content": turn.content or ""} for turn in turns]
    try:
        ids = chat.encode(tokenizer, messages).input_ids
        chat.check_beginning(tokenizer, ids)
    except InputError as error:
        add("tokens.contract", error.found, 0)
        return
    if max_length is not None and len(ids) > max_length:
        add("tokens.length", f"{len(ids)} tokens, at most {max_length} are allowed", 0)


def _check_turns(turns: Sequence[Turn], add: Add) -> bool:
    """Check the roles of a conversation and the letters of its texts; return whether a chat template can render it."""
    sound = _roles_in_order([turn.role for turn in turns])
    if not sound:
        add("chat.roles", " → ".join(str(turn.role) for turn in turns), 0)
    faults: dict[str, Fault] = {}
    for turn in turns:
        if not turn.content or turn.content.isspace():
            faults.setdefault("chat.empty", ("chat.empty", f"the turn of {turn.role}", 0))
            continue
        for line in turn.content.split("\n"):
            for fault in _faults(line):
                faults.setdefault(fault[0], fault)
    for fault in faults.values():
        add(*fault)
    return sound and "chat.empty" not in faults and "chat.control-token" not in faults


def _roles_in_order(roles: list[str | None]) -> bool:
    """An optional system turn, then user and assistant in turn, the assistant last."""
    asked = roles[1:] if roles[0] == "system" else roles
    return len(asked) > 0 and asked == ["user", "assistant"] * (len(asked) // 2)


# Requests, system turns and answers come again and again.
@lru_cache(maxsize=1_000)
def _faults(line: str) -> tuple[Fault, ...]:
    """What is wrong with the letters of one line."""
    found = []
    if hit := control_token(line):
        found.append(("chat.control-token", line, hit.start()))
    if line.isascii() and line.isprintable():
        return tuple(found)
    for code, pattern in (("text.control", INVISIBLE), ("text.bidi", BIDI)):
        if hit := pattern.search(line):
            found.append((code, line, hit.start()))
    if "\ufffd" in line or is_bad(line):
        found.append(("text.mojibake", line, 0))
    if not unicodedata.is_normalized("NFC", line):
        found.append(("text.not-nfc", line, 0))
    return tuple(found)


def _check_columns(row: CheckedRow, conversation: Conversation, add: Add) -> None:
    """Check the row's columns `answer`, `name_...` and `description` against the conversation and their languages."""
    stated, said = row.values.get("answer"), conversation.answer
    if stated is not None and said is not None and stated != said:
        add("schema.answer", f"{stated} / {said}", 0)
    korean, english = row.values.get("name_ko"), row.values.get("name_en")
    if korean and not has_hangul(korean):
        add("lang.answer", f"`name_ko`: {korean}", 0)
    elif english and has_hangul(english):
        add("lang.answer", f"`name_en`: {english}", 0)
    text, language = row.values.get("description"), row.values.get("language")
    if text and language and not fits_language(text, language):
        add("lang.description", text, 0)


def _names_of(row: CheckedRow, answer: str | None) -> Names:
    """The names that the prompt must not hold: those in columns `name_...`, and a short answer's."""
    named = {column.removeprefix("name_"): name for column, name in row.values.items() if column.startswith("name_")}
    cells = [
        name
        for language, name in named.items()
        if name and (language in ANSWER_LANGUAGES or fold(name) not in ORDINARY_WORDS)
    ]
    if answer and len(answer) <= LONGEST_ANSWER_NAME:
        cells.append(answer)
    return _names_in(tuple(cells))


@lru_cache(maxsize=10_000)
def _names_in(cells: tuple[str, ...]) -> Names:
    sure, likely = zip(*map(names_in, cells), strict=True) if cells else ((), ())
    return Names(tuple(dict.fromkeys(chain(*sure))), tuple(dict.fromkeys(chain(*likely))))


def _check_leak(prompt: str, names: Names, add: Add) -> tuple[int, str] | None:
    """Check for the row's names in its prompt, matched as masking matches a creature's own.

    Returns:
        Place and text of a word that is nearly a name; None where there is none, or a name itself.
    """
    folded = fold(prompt)
    may_have = any(spelling in folded for name in names.sure for spelling in spellings(name))
    if may_have and (places := own_names_in(prompt, names.sure)):
        add("leak.own-name", prompt, places[0][0])
        return None
    return near_name(prompt, folded, (*names.sure, *names.likely))
