"""The house: imports point down, nothing heavy is loaded before it is needed, and no cycle exists."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "toolkit"
GROUND = {
    "",
    "errors",
    "record",
    "folder",
    "recipe",
    "recipes",
    "corpus",
    "notices",
    "escape",
    "endpoint",
    "collecting",
}
STEPS = {
    "build",
    "validate",
    "train",
    "evaluate",
    "hub",
    "verify",
    "reproduce",
    "naming",
    "preview",
    "doctor",
    "merge",
    "app",
}
TOP = {"road": 4, "cli": 5, "__main__": 6, "show": 3}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "matplotlib",
    "bitsandbytes",
    "sklearn",
    "gradio",
    "sentence_transformers",
}


def layer(module: str) -> int:
    """0 ground, 1 tools, 2 steps, 3 and above the command line."""
    if module in TOP:
        return TOP[module]
    return 0 if module in GROUND else 2 if module in STEPS else 1


def module_name(file: Path) -> str:
    """A module of `toolkit`, or the name of the package that it is in."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py").replace("__init__", "")


def imports() -> set[tuple[str, str]]:
    """(importing module, imported module) inside the toolkit, those inside functions included."""
    found = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "toolkit":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("toolkit."):
                names = [str(node.module).split(".")[1]]
            elif isinstance(node, ast.Import):
                names = [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("toolkit.")]
            found |= {(module_name(file), "" if name == "__version__" else name) for name in names}
    return {(importing, imported) for importing, imported in found if importing != imported}


def test_imports_point_down_and_steps_do_not_import_each_other():
    wrong = []
    for importing, imported in imports():
        up = layer(imported) > layer(importing)
        across = layer(imported) == layer(importing) == 2
        if up or across:
            wrong.append(f"{importing} imports {imported}")
    assert not wrong


def test_there_is_no_import_cycle_even_inside_functions():
    below: dict[str, set[str]] = {}
    for importing, imported in imports():
        below.setdefault(importing, set()).add(imported)

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        for imported in below.get(module, ()):
            visit(imported, (*path, module))

    for module in below:
        visit(module, ())


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh process has loaded after some code."""
    command = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    )


def test_no_module_loads_a_heavy_library_when_it_is_imported():
    modules = [
        ".".join(("toolkit", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for file in ROOT.rglob("*.py")
        if file.name != "__main__.py"
    ]
    loaded = loaded_by("\n".join(f"import {module}" for module in sorted(modules)))
    assert not loaded & HEAVY


def test_the_command_line_loads_click_alone():
    third_party = loaded_by("import toolkit.cli") - loaded_by("") - set(sys.stdlib_module_names)
    assert third_party == {"click", "toolkit"}


@pytest.mark.parametrize(
    "forbidden", ["except Exception", "except BaseException", "raise NotImplementedError", "TODO", "FIXME"]
)
def test_nothing_unfinished_or_swallowed_is_in_the_toolkit(forbidden):
    assert not [file.name for file in ROOT.rglob("*.py") if forbidden in file.read_text(encoding="utf-8")]
