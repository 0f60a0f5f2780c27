"""Make the pictures of the README from real output: `python docs/make_pictures.py ADAPTER`, whose card is shown.

Needs Chromium, playwright and pyte (`pip install pyte`), and three minutes: the recorded commands run.
"""

import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fcntl import ioctl
from html import escape
from itertools import accumulate, groupby
from pathlib import Path
from termios import TIOCSWINSZ

from toolkit.cards.page import write_preview

PICTURES = Path(__file__).parent / "pictures"
# Recorded one after the other; the README has the same lines.
COMMANDS = (
    "pkt build-dataset data",
    "pkt train data adapter",
    "pkt evaluate adapter data",
    'pkt name "A small fox with a tail of blue flame" --adapter adapter',
)
COLUMNS, ROWS = 80, 26
# Of a command's screens that many are kept. Seconds that one is shown, a command's last, and the last of all.
KEPT, MOMENT, PAUSE, END = 14, 0.3, 2.0, 8.0
WIDTH, HEIGHT, MARGIN, BAR = 8.4, 18, 14, 30
# What rich uses, by pyte's names; anything else is shown in the default.
COLOURS = {
    "brightblack": "#6e7681",
    "brightred": "#ff7b72",
    "green": "#7ee787",
    "magenta": "#d2a8ff",
    "cyan": "#56d4dd",
}

# Of the card: from the one element to the other.
PARTS = {"card": ("h1", "#use-it"), "card_figures": ("#how-well-it-identifies", "#how-well-it-identifies ~ .wide")}

# Text, colour and boldness of each cell of a screen's rows.
Row = tuple[tuple[str, str, bool], ...]
Screen = tuple[Row, ...]


def record(folder: Path) -> list[tuple[float, Screen]]:
    """Run COMMANDS in a terminal of their own; returns screens, each with the seconds that it is shown."""
    import pyte

    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    film: list[tuple[float, Screen]] = []
    for command in COMMANDS:
        stream.feed(f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n".encode())
        seen = [_cells(screen)]
        for some in _output(command, folder):
            stream.feed(some)
            if _cells(screen) != seen[-1]:
                seen.append(_cells(screen))
        step = max(1, len(seen) // KEPT)
        film += [(MOMENT, cells) for cells in seen[:-1:step]] + [(PAUSE, seen[-1])]
    return [*film[:-1], (END, film[-1][1])]


def _output(command: str, folder: Path) -> Iterator[bytes]:
    main, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    settings = os.environ | {"PATH": path, "TERM": "xterm"}
    running = subprocess.Popen(command, shell=True, cwd=folder, env=settings, stdout=terminal, stderr=terminal)
    os.close(terminal)
    while True:
        try:
            yield os.read(main, 65536)
        except OSError:  # How Linux says that nothing more will come.
            break
    os.close(main)
    if running.wait():
        sys.exit(f"{command} ended with exit code {running.returncode}.")


def _cells(screen) -> Screen:
    rows = ([screen.buffer[y][x] for x in range(COLUMNS)] for y in range(ROWS))
    return tuple(tuple((cell.data, cell.fg, cell.bold) for cell in row) for row in rows)


def film_svg(film: list[tuple[float, Screen]]) -> str:
    """An animated SVG: the screens one below the other, moved past a window; each different row stands in it once."""
    drawn = {row: _runs(row) for _, cells in film for row in cells}
    names = {row: f"r{number}" for number, row in enumerate(drawn) if drawn[row]}
    rows = "\n".join(f'<g id="{name}">{drawn[row]}</g>' for row, name in names.items())
    wide, high = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    lines = ((row, n * high + y * HEIGHT) for n, (_, cells) in enumerate(film) for y, row in enumerate(cells))
    uses = "".join(f'<use href="#{names[row]}" y="{y}"/>' for row, y in lines if row in names)
    starts = [*accumulate((seconds for seconds, _ in film), initial=0.0)]
    moves = [f"transform:translateY(-{min(n, len(film) - 1) * high}px)" for n in range(len(starts))]
    steps = "".join(f"{100 * start / starts[-1]:.2f}%{{{move}}}" for start, move in zip(starts, moves, strict=True))
    dots = "".join(f'<circle cx="{18 + 18 * n}" cy="{BAR / 2}" r="5" fill="#484f58"/>' for n in range(3))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high + BAR}" width="{wide:g}">
<desc>{escape(chr(10).join(COMMANDS))}</desc>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}
.b{{font-weight:bold}} .film{{{moves[-1]};animation:film {starts[-1]:g}s step-end infinite}}
@media(prefers-reduced-motion:reduce){{.film{{animation:none}}}}
@keyframes film{{{steps}}}
</style>
<defs>
{rows}
</defs>
<rect width="100%" height="100%" rx="8" fill="#0d1117" stroke="#484f58"/>{dots}
<text x="50%" y="20" fill="#8b949e" text-anchor="middle">{COLUMNS} columns, waiting shortened</text>
<svg y="{BAR}" width="{wide:g}" height="{high}"><g class="film">{uses}</g></svg>
</svg>
"""


def _runs(row: Row) -> str:
    runs, column = [], 0
    for (colour, bold), cells in groupby(row, key=lambda cell: cell[1:]):
        # After a character of two columns comes an empty cell.
        texts = [text for text, _, _ in cells]
        written = [column + place for place, text in enumerate(texts) if text != " "]
        if written:
            place = f'x="{MARGIN + written[0] * WIDTH:.1f}" y="{MARGIN + 14}"'
            length = f'textLength="{(written[-1] + 1 - written[0]) * WIDTH:.1f}"'
            style = f'fill="{COLOURS.get(colour, "#d1d7e0")}"' + (' class="b"' if bold else "")
            runs.append(f"<text {place} {length} {style}>{escape(''.join(texts).strip(), quote=False)}</text>")
        column += len(texts)
    return "".join(runs)


def photograph(adapter: Path) -> None:
    """The card's beginning, and its part about identification with the plot, as `pkt preview` shows them."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as there, sync_playwright() as playwright:
        page = write_preview(adapter, Path(there) / "card.html")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            view = browser.new_page(viewport={"width": 900, "height": 900}, color_scheme=scheme)
            view.goto(page.as_uri())
            for name, (first, next_one) in PARTS.items():
                top, bottom = (view.locator(part).first.bounding_box()["y"] for part in (first, next_one))
                clip = {"x": 16, "y": top - 24, "width": 868, "height": bottom - top + 8}
                file = PICTURES / f"{name}_{scheme}.png"
                view.screenshot(path=file, full_page=True, clip=clip)
                Image.open(file).quantize(128).save(file, optimize=True)
        browser.close()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    photograph(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as there:
        (PICTURES / "terminal.svg").write_text(film_svg(record(Path(there))), encoding="utf-8")
