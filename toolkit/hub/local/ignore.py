"""Which files a `.gitignore` leaves out: git's rules, but for `[[:alpha:]]` and `[z-a]`."""

import re
from collections.abc import Callable

from toolkit.hub.local.objects import parent_folders

_PARTS = re.compile(
    r"(?P<folders>(?:(?<=/)|^)\*\*+/)|(?P<below>(?<=/)\*\*+$)|(?P<text>\*+)|(?P<one>\?)|\\(?P<escaped>.)"
    r"|\[(?P<other>[!^]?)(?P<members>\]?(?:\\.|[^]\\])*)\]|(?P<plain>[^[\\])",
    re.DOTALL,
)
_MEANINGS = {"folders": "(?:.*/)?", "below": ".+", "text": "[^/]*", "one": "[^/]"}


def ignored_by(text: str) -> Callable[[str], bool]:
    """Tells of a path whether the `.gitignore` with this text, at the root of a repository, leaves it out."""
    rules = [rule for line in text.removeprefix("\ufeff").split("\n") if (rule := _rule(line.removesuffix("\r")))]

    def last(path: str) -> bool:
        """What the last rule says that matches."""
        return next((ignored for pattern, ignored in reversed(rules) if pattern.fullmatch(path)), False)

    # Nothing below an ignored folder is taken in again.
    return lambda path: any(last(f"{folder}/") for folder in parent_folders(path)) or last(path)


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """What a line matches (a folder ends with `/`), and whether that is ignored; None where it matches nothing."""
    ends = re.fullmatch(r"((?:\\.|[^\\]|\\$)*?) *", line, re.DOTALL)
    pattern = ends[1] if ends and not line.startswith("#") else ""
    is_ignored, pattern = not pattern.startswith("!"), pattern.removeprefix("!")
    end, pattern = ("(?<!/)/" if pattern.endswith("/") else "(?<!/)/?"), pattern.removesuffix("/")
    start, pattern = ("" if "/" in pattern else "(?:.*/)?"), pattern.removeprefix("/")
    parts = list(_PARTS.finditer(pattern))
    if not pattern or "".join(part[0] for part in parts) != pattern:
        return None
    try:
        return re.compile(start + "".join(map(_meaning, parts)) + end, re.DOTALL), is_ignored
    except re.error:  # a range backwards
        return None


def _meaning(part: re.Match[str]) -> str:
    if part["members"] is not None:  # with what Python, but not git, reads in them escaped
        members = re.sub(r"\\(.)|([\[&~|])", lambda each: re.escape(each[1] or each[2]), part["members"])
        return f"(?!/)[{'^' if part['other'] else ''}{members}]"
    literal = part["escaped"] or part["plain"]
    return re.escape(literal) if literal else _MEANINGS[part.lastgroup or ""]
