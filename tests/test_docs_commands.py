"""Every command of the documents is run, each page from its top, in a folder that holds what `make demo` made.

A comment above a block says what differs: `<!-- run: not, REASON -->` (its commands are only parsed),
`<!-- run: exits 1 -->`, `<!-- run first: COMMANDS -->` (what a reader has done before). A block of text after it is
what it prints, numbers aside, unless `<!-- output: of a whole training -->` or the like stands above that.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from support.paths import ROOT
from support.shell import programs  # noqa: F401 (a fixture)
from toolkit.cli import main
from toolkit.core.recipe import load_recipe
from toolkit.hub.local.serve import running_hub

# The reference of functions is of signatures, which are written from the code.
REFERENCE = ROOT / "docs" / "python.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {REFERENCE})]
# Twins of pages that are run.
TWINS = [ROOT / "README.ko.md"]
# Lines that ask package indexes, accounts and other machines.
ELSEWHERE = re.compile(
    r"(#!|(make|source|pip|hf auth|docker|git|pre-commit|torchrun|accelerate|ollama|vllm) |"
    r"\.venv/bin/(pytest|pip|python) )"
)
BLOCK = re.compile(r"((?:^<!-- .*?-->\n)*)^```(bash|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (run|run first|output): (.*?) -->", re.DOTALL)
# How a page calls it.
PKT = ("pkt", ".venv/bin/pkt", "toolkit")
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d{4}|(?<=--port )\d{4}")


@dataclass
class Block:
    """A block of commands, what the comments above it say, and what it prints."""

    language: str
    text: str
    marks: dict[str, str]
    prints: str = ""

    def is_run(self) -> bool:
        return not self.marks.get("run", "").startswith("not, ") and bool(self.script().strip())

    def script(self) -> str:
        """What bash runs of it."""
        if self.language == "python":
            return f"python - <<'END OF PYTHON'\n{self.text}END OF PYTHON\n"
        kept = [line for line in self.text.replace("\\\n", " ").splitlines() if not ELSEWHERE.match(line)]
        if code := self.marks.get("run", "").removeprefix("exits "):
            kept = [f"code=0\n{kept[0]} || code=$?", f'test "$code" = {code}']
        return "\n".join([self.marks.get("run first", ""), *kept, ""])


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    for comments, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        marks = dict(MARK.findall(comments))
        if language != "text":
            found.append(Block(language, text, marks))
        elif found and not marks and not found[-1].prints:
            found[-1].prints = text
    return found


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `pkt` in the blocks of a page."""
    found = []
    for block in blocks(page):
        for line in block.text.replace("\\\n", " ").splitlines() if block.language == "bash" else ():
            if re.search(r"(?<!--tag )\bpkt |-m toolkit ", line) and not line.startswith("#"):
                words = shlex.shlex(line, posix=True, punctuation_chars="|&;")
                words.whitespace_split = True
                found += [part.split("\0") for part in re.split("\0[|&;]+\0?", "\0".join(words))]
    starts = [(words, words.index(start) + 1) for words in found for start in words if start in PKT]
    return [words[at:] for words, at in starts]


def parse(arguments: list[str]) -> None:
    """Raise UsageError where `pkt` does not know the verb, an option or a value; InputError for a recipe."""
    context = main.make_context("pkt", list(arguments))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    recipe = context.params.get("recipe")
    if isinstance(recipe, str) and not recipe.endswith(".toml"):
        load_recipe(recipe)


@pytest.mark.parametrize("page", [*PAGES, *TWINS], ids=lambda page: str(page.relative_to(ROOT)))
def test_verbs_options_and_values_of_a_page_exist(page):
    if not page.exists():
        pytest.skip(f"there is no {page.name}")
    for arguments in commands(page):
        parse(arguments)


@pytest.fixture(scope="session")
def demo(programs, tmp_path_factory):  # noqa: F811
    """What `make demo` makes, after two steps of training."""
    folder = tmp_path_factory.mktemp("made")
    run(["pkt run demo demo\n"], folder, programs)
    return folder / "demo"


def run(scripts: list[str], folder: Path, programs: Path, **environment: str) -> list[str]:  # noqa: F811
    """Run scripts in one shell in a folder, with a home of its own; what each printed."""
    home = folder.parent / f"{folder.name}.home"
    home.mkdir()
    parts = [f"exec >'{home}/{at}' 2>&1\n{script}" for at, script in enumerate(scripts)]
    kept = {key: os.environ[key] for key in ("LANG", "LD_LIBRARY_PATH") if key in os.environ}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "COLUMNS": "80"} | kept
    done = subprocess.run(["bash", "-euo", "pipefail"], input="".join(parts), text=True, cwd=folder, env=environment)
    printed = [(home / str(at)).read_text() for at in range(len(list(home.glob("[0-9]*"))))]
    assert done.returncode == 0, f"{scripts[len(printed) - 1]}\n{printed[-1]}"
    return printed


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.is_run() for block in blocks(page))], ids=lambda page: page.stem
)
def test_what_a_page_says_works(page, demo, programs, tmp_path):  # noqa: F811
    folder, ports = tmp_path / "reader", {}
    shutil.copytree(demo, folder / "demo")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(programs)
    told = [block for block in blocks(page) if block.is_run()]
    with ExitStack() as stack:
        for port in {"8765", "8000", *PORT.findall(page.read_text(encoding="utf-8"))}:
            ports[port] = str(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
    # In the place of the public Hub.
    token = (demo / "hub" / "token").read_text().strip()
    with running_hub(shutil.copytree(demo / "hub", tmp_path / "hub"), owner_token=token) as endpoint:
        where = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token} | {f"PORT_{port}": free for port, free in ports.items()}
        scripts = [PORT.sub(lambda port: ports[port[0]], block.script()) for block in told]
        try:
            printed = run(scripts, folder, programs, **where)
        finally:
            subprocess.run([programs / "end"], check=True)
    for block, output in zip(told, printed, strict=True):
        lines = plain(output)
        assert [line for line in plain(block.prints) if not any(each.startswith(line) for each in lines)] == [], output


def plain(text: str) -> list[str]:
    """Lines without numbers and blanks at their ends."""
    return [re.sub(r"\d+", "0", line).rstrip() for line in text.splitlines()]
