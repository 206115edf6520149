"""Docstrings: a short first line on everything public, and a shape for every array.

``TODO_ROOMS`` lists the rooms that are not held to this yet.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "datagen"

TODO_ROOMS = {"stages", "engine", "executors", "report", "exports", "cli"}
"""Folders and modules of ``datagen`` that are not checked yet; remove a name to check it."""

ARRAYS = re.compile(r"\b(NDArray|Floats|Tensor|Mesh)\b")
"""Types whose annotation says nothing of the shape."""
ARRAY_METHODS = {"__call__", "__iter__"}
"""Methods with two underscores whose arrays need a shape too."""
SHAPE = re.compile(r"\([\w*./+^·, -]*,[\w*./+^·, -]*\)|\(\d*[A-Z]\w*\)")
"""A shape in parentheses: (N, 3), (V,), (B, ..., C)."""
MAX_LINE = 100

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def room_of(path: Path) -> str:
    """Return the folder below ``datagen``, or the module, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


ROOMS = sorted({room_of(path) for path in PACKAGE.rglob("*.py")} - TODO_ROOMS)


def public_nodes(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """Yield a module and its public classes, functions and methods, each with its name."""
    yield "module", tree
    yield from _public_members(tree, "")


def _public_members(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name not in ARRAY_METHODS:
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public_members(node, f"{node.name}.")


def annotations(node: Documented) -> str:
    """Return the annotations of a function's arguments and result, as one text."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    found = [argument.annotation for argument in [*named, arguments.vararg] if argument]
    return " ".join(ast.unparse(one) for one in [*found, node.returns] if one is not None)


def problems(source: str) -> list[str]:
    """Return a line for each docstring of a module that breaks a rule."""
    found = []
    for name, node in public_nodes(ast.parse(source)):
        line = getattr(node, "lineno", 1)
        text = ast.get_docstring(node)
        if text is None:
            if not needs_no_words(node):
                found.append(f"{line}: {name} has no docstring")
            continue
        first = text.splitlines()[0]
        if not first.endswith(".") or len(first) > MAX_LINE:
            found.append(f"{line}: {name}: expected a first line that ends with a period: {first}")
        if ARRAYS.search(annotations(node)) and not SHAPE.search(text):
            found.append(f"{line}: {name} takes or returns an array; expected its shape")
    return found


def needs_no_words(node: Documented) -> bool:
    """Return whether a function may go without a docstring: properties and one-word methods."""
    return False


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_of_room(room):
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{problem}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if room_of(path) == room
        for problem in problems(path.read_text())
    ]
    assert not found, "\n".join([f"{len(found)} docstrings", *found])
