"""The page that names the creature in a description. It runs alone, as a Space does: `python app.py`.

`space.json` beside it names the adapter that answers. `pkt app` shows the same page on this machine.
"""

from __future__ import annotations

import copy
import html
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

NAMES, NEAREST, EXAMPLES, BATCH = 5, 3, 3, 32
# New names are chosen among three times as many, drawn while the next token of a known name costs six nats.
CHOICE, DISCOUNT = 3, 6.0
# What a cosine with a centroid counts for, in nats.
SCALE = 20
# One or two words that begin with a capital or in Hangul, without a letter three times in a row.
FORM = re.compile(r"(?!.*(.)\1\1)[A-ZÀ-Þ가-힣][\w'’.♀♂-]{1,13}(?: [(]?[A-ZÀ-Þ가-힣][\w'’.♀♂-]{0,13}[)]?)?")
ASK, WAITING = "Name it · 이름 짓기", "Thinking … · 생각하는 중 …"
LONGEST = 2000
HANGUL = re.compile("[가-힣]")
CSS = """
footer { display: none !important; }
.gradio-container { max-width: 720px !important; margin: 0 auto !important; word-break: keep-all; }
.gradio-container p, .gradio-container button, .gradio-container li { overflow-wrap: anywhere; }
#problem p { color: #b42318; font-weight: 600; margin: 0; }
.dark #problem p { color: #fda29b; }
#names ul { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; margin: 0; padding: 0; }
#names li { border: 1px solid var(--border-color-primary); border-radius: 8px; }
#names li { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; padding: 6px 12px; }
#names, #problem { padding: 0; }
#names h2 { font-size: 0.9rem; font-weight: 400; margin: 0 0 8px; }
#examples td, #examples button { white-space: normal !important; text-align: left; }
"""


class Problem(Exception):
    """A mistake that the reader of the page can mend, in a line that the page shows."""


@dataclass(frozen=True)
class Answer:
    """Invented names, and the nearest known creatures, each with its probability among all known ones."""

    names: list[str]
    nearest: list[tuple[str, float]]


@dataclass(frozen=True)
class About:
    """What the page says of the adapter: title, example descriptions, and how often it was right, if measured."""

    title: str
    examples: list[str]
    measured: str


def read_about(folder: Path, title: str) -> About:
    """Examples and figures from an adapter's own files."""
    samples = [json.loads(line) for line in _text(folder / "samples.jsonl").split("\n") if line]
    texts = [str(sample["description"]) for sample in samples]
    english = [text for text in texts if not HANGUL.search(text)][:EXAMPLES]
    korean = [text for text in texts if HANGUL.search(text)][:EXAMPLES]
    test = json.loads(_text(folder / "evaluation.json") or "{}").get("test")
    measured = ""
    if test and "adapter" in test["methods"]:
        rows, share = test["rows"], test["methods"]["adapter"]["top1"]["value"]
        measured = (
            f"Of {rows:,} descriptions it had never seen, it put the right creature first for {share:.0%}.<br>"
            f"처음 보는 설명 {rows:,}개 가운데 {share:.0%}에서 맞는 생물을 첫째로 꼽았습니다."
        )
    return About(title, english + korean, measured)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


# The page.


def build(about: About, answer: Callable[[str, int], Answer]) -> gr.Blocks:
    """The page. `answer(description, seed)` may raise `Problem`, and is called for one reader after the other."""
    # Else gradio reports every start to its makers.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    def ask(description: str, presses: int) -> tuple[Any, Any, Any, int]:
        try:
            found = answer(checked(description), presses)
        except Problem as problem:
            return gr.update(value=f"<p>{html.escape(str(problem))}</p>", visible=True), _hidden(), _hidden(), presses
        names, nearest = gr.update(value=names_html(found.names), visible=True), _hidden()
        if found.nearest:
            nearest = gr.update(value=dict(found.nearest), visible=True)
        return _hidden(), names, nearest, presses + 1

    def _hidden() -> Any:
        return gr.update(visible=False)

    def turn(waiting: bool) -> Any:
        return gr.update(value=WAITING if waiting else ASK, interactive=not waiting)

    with gr.Blocks(title=about.title, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {about.title}\nDescribe a creature and get names for it.<br>생물을 묘사하면 이름을 지어 줍니다."
        )
        box = gr.Textbox(label="Description · 설명", lines=4, max_lines=12, elem_id="description")
        button = gr.Button(ASK, variant="primary", elem_id="ask")
        problem = gr.HTML(visible=False, elem_id="problem")
        names = gr.HTML(visible=False, elem_id="names")
        nearest = gr.Label(
            label="Nearest creatures · 가장 가까운 생물", show_heading=False, visible=False, elem_id="nearest"
        )
        if about.measured:
            gr.Markdown(about.measured)
        if about.examples:
            gr.Examples([[text] for text in about.examples], box, label="Examples · 예시", elem_id="examples")
        presses = gr.State(0)
        # The places of an answer are hidden until there is one; the button shows that one is on its way.
        pressed = button.click(partial(turn, True), None, button, queue=False, api_visibility="private")
        answered = pressed.then(
            ask,
            [box, presses],
            [problem, names, nearest, presses],
            concurrency_limit=1,
            show_progress_on=[button],
            api_visibility="private",
        )
        for ended in (answered.success, answered.failure):
            ended(partial(turn, False), None, button, queue=False, api_visibility="private")
    return page.queue(max_size=32)


def page_style() -> dict[str, object]:
    """Theme and style of the page, with fonts of the reader's machine only."""
    import gradio as gr

    fonts = ["system-ui", "-apple-system", "Noto Sans KR", "Noto Sans CJK KR", "sans-serif"]
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": CSS, "footer_links": []}


def checked(description: str | None) -> str:
    """A description on one line; a problem when it is empty or too long."""
    text = " ".join((description or "").split())
    if not text:
        raise Problem("Write a sentence or two about the creature first. · 먼저 생물을 한두 문장으로 묘사해 주세요.")
    if len(text) > LONGEST:
        raise Problem(
            f"The description has {len(text):,} characters; at most {LONGEST:,} can be read. · "
            f"설명이 {len(text):,}자입니다. {LONGEST:,}자까지 읽을 수 있습니다."
        )
    return text


def names_html(names: Sequence[str]) -> str:
    """Names as a list. The words of a model are text, never markup."""
    items = "".join(f"<li>{html.escape(name)}</li>" for name in names)
    return f"<h2>Names · 이름</h2><ul>{items}</ul>"


# The adapter, by transformers and peft alone.


@dataclass(frozen=True)
class Adapter:
    """An adapter on its base, its manifest, the names that it knows with their centroids, and those of its dataset."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    manifest: dict[str, Any]
    known: list[str]
    centroids: torch.Tensor | None
    taken: list[str]


def load(folder: Path) -> Adapter:
    """Load an adapter folder in the precision that it was measured in; on a CPU, bf16 stands in for fp16."""
    import torch
    from peft import AutoPeftModelForCausalLM
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    manifest = json.loads(_text(folder / "manifest.json"))
    compute = manifest.get("evaluation_precision", {}).get("compute", "float32")
    gpu = torch.cuda.is_available()
    dtype = "bfloat16" if compute == "float16" and not gpu else compute
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    known = json.loads(_text(folder / "answers.json") or "[]")
    taken = json.loads(_text(folder / "taken_names.json") or "[]")
    states = folder / "centroids.safetensors"
    centroids = load_file(states)["centroids"] if states.is_file() else None
    tokenizer, taken = AutoTokenizer.from_pretrained(folder), list(dict.fromkeys([*known, *taken]))
    return Adapter(model.to("cuda" if gpu else "cpu"), tokenizer, manifest, known, centroids, taken)


def answer(adapter: Adapter, description: str, seed: int) -> Answer:
    """New names by the adapter's own sampling settings, and the nearest known names. Control tokens are a problem."""
    for token in adapter.tokenizer.all_special_tokens:
        if token in description:
            raise Problem(f"Leave out {token}, which means something to the model. · {token}을(를) 빼 주세요.")
    return Answer(_invent(adapter, description, seed), _nearest(adapter, _prompt(adapter, description)))


def _prompt(adapter: Adapter, description: str) -> str:
    request, system = adapter.manifest.get("request"), adapter.manifest.get("system")
    messages = [{"role": "user", "content": f"{request}\n\n{description}" if request else description}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return str(adapter.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def _ids(adapter: Adapter, text: str) -> list[int]:
    return list(adapter.tokenizer(text, add_special_tokens=False).input_ids)


def _invent(adapter: Adapter, description: str, seed: int) -> list[str]:
    """New names, those first that the description makes likelier; any names where none are known."""
    prompt = _prompt(adapter, description)
    drawn: list[str] = []
    formed = sum(FORM.fullmatch(name) is not None for name in adapter.known) > 0.9 * len(adapter.known)
    for name in _draw(adapter, prompt, seed):
        if (FORM.fullmatch(name) or not formed) and not any(_alike(name, other) for other in [*adapter.taken, *drawn]):
            drawn.append(name)
    with_it, without = (
        log_likelihoods(adapter.model, _ids(adapter, text), _answers(adapter, text, drawn))
        for text in (prompt, _prompt(adapter, ""))
    )
    gains = {name: one - other for name, one, other in zip(drawn, with_it, without, strict=True)}
    return sorted(drawn, key=lambda name: -gains[name])[:NAMES]


def _draw(adapter: Adapter, prompt: str, seed: int) -> list[str]:
    import torch

    ids = torch.tensor([_ids(adapter, prompt)], device=adapter.model.device)
    stops = adapter.tokenizer.convert_tokens_to_ids(adapter.manifest["stop_tokens"])
    costs: dict[tuple[int, ...], dict[int, float]] = {}
    for answer in _answers(adapter, prompt, adapter.taken):
        name = list(takewhile(lambda token: token not in stops, answer))
        for place, token in enumerate(name):
            following = costs.setdefault(tuple(name[:place]), {})
            cost = math.inf if place == len(name) - 1 else DISCOUNT if place else 0.0
            following[token] = max(cost, following.get(token, 0.0))

    def away(input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        for row, said in enumerate(input_ids[:, ids.shape[1] :].tolist()):
            for token, cost in costs.get(tuple(said), {}).items():
                logits[row, token] -= cost
        return logits

    torch.manual_seed(seed)
    with torch.inference_mode():
        drawn = adapter.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            num_return_sequences=CHOICE * NAMES,
            eos_token_id=stops,
            pad_token_id=stops[0],
            logits_processor=[away],
            **adapter.manifest["recipe"]["decoding"],
        )
    ended = (row[ids.shape[1] :] for row in drawn if set(row[ids.shape[1] :].tolist()) & set(stops))
    names = [adapter.tokenizer.decode(row, skip_special_tokens=True).strip() for row in ended]
    return list(dict.fromkeys(name for name in names if name))


def _alike(name: str, other: str) -> bool:
    """Whether one name holds the other, or is it but for one letter, put in, left out or replaced; in any case."""
    one, two = sorted((re.sub(r"\W", "", text.casefold()) for text in (name, other)), key=len)
    start = next((at for at, pair in enumerate(zip(one, two, strict=False)) if len(set(pair)) > 1), len(one))
    rests = {one[start + (len(one) == len(two)) :], two[start + 1 :]}
    near = len(one) > 2 and len(two) - len(one) < 2 and len(rests) == 1
    return one == two or near or (len(one) > 3 and one in two)


def _nearest(adapter: Adapter, prompt: str) -> list[tuple[str, float]]:
    """The first known names: by their centroids where the adapter has some, else the likeliest; with their shares."""
    import torch

    if not adapter.known:
        return []
    ids = _ids(adapter, prompt)
    if adapter.centroids is None:
        scores = torch.tensor(log_likelihoods(adapter.model, ids, _answers(adapter, prompt, adapter.known)))
    else:
        state = state_after(adapter.model, ids).float().cpu()
        scores = SCALE * torch.cosine_similarity(state, adapter.centroids.float(), dim=1)
    shares = scores.softmax(0).tolist()
    return sorted(zip(adapter.known, shares, strict=True), key=lambda pair: -pair[1])[:NEAREST]


def _answers(adapter: Adapter, prompt: str, names: Sequence[str]) -> list[list[int]]:
    """The tokens of each name, with the end of its turn, after the prompt."""
    start = len(_ids(adapter, prompt))
    return [_ids(adapter, prompt + name + adapter.manifest["stop_tokens"][0])[start:] for name in names]


def state_after(model: PeftModel, prompt: Sequence[int]) -> torch.Tensor:
    """What enters the output embeddings at the last token of a prompt, `[1, hidden]`."""
    import torch

    seen: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(input_ids=torch.tensor([list(prompt)], device=model.device), logits_to_keep=1)
    hook.remove()
    return seen[0][:, -1]


def log_likelihoods(model: PeftModel, prompt: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[float]:
    """Log-probability of each candidate after the prompt, which is read once; shorter ones are padded at the end."""
    import torch
    from transformers import DynamicCache

    scores: list[float] = []
    with torch.inference_mode():
        read = DynamicCache()
        ids = torch.tensor([list(prompt)], device=model.device)
        first = model(input_ids=ids, past_key_values=read, use_cache=True, logits_to_keep=1).logits
        for at in range(0, len(candidates), BATCH):
            batch = candidates[at : at + BATCH]
            width = max(map(len, batch))
            rows = torch.tensor([[*one, *[0] * (width - len(one))] for one in batch], device=model.device)
            logits = first.expand(len(batch), -1, -1)
            if width > 1:
                cache = copy.deepcopy(read)
                cache.batch_repeat_interleave(len(batch))
                rest = model(input_ids=rows[:, :-1], past_key_values=cache, use_cache=True).logits
                logits = torch.cat([logits, rest], dim=1)
            found = logits.float().log_softmax(-1).gather(2, rows[:, :, None])[:, :, 0]
            scores += [float(row[: len(one)].sum()) for row, one in zip(found, batch, strict=True)]
    return scores


def main() -> None:
    """Serve the page for the adapter that `space.json` names, at its commit."""
    from huggingface_hub import snapshot_download

    chosen = json.loads(_text(Path(__file__).with_name("space.json")))
    folder = Path(snapshot_download(chosen["adapter"], revision=chosen["revision"]))
    adapter = load(folder)
    about = read_about(folder, chosen["adapter"].partition("/")[2])
    build(about, lambda description, seed: answer(adapter, description, seed)).launch(**page_style())


if __name__ == "__main__":
    main()
