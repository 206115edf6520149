"""Docstrings: a short first line on everything public, and a shape for every array.

A method may leave its docstring to the interface (a ``Protocol`` or abstract class) that has it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "datagen"

ARRAYS = re.compile(r"\b(NDArray|Floats|Tensor|Mesh)\b")
"""Types that do not give the shape."""

SIDE = r"(?:-?\d+³?|\d*[A-Z]\w{0,2}³?|[A-Z]+_\w+|\d*[a-z_]+³?|\.\.\.)"
AXIS = rf"{SIDE}(?:(?: ?[-+*/·] ?| or ){SIDE})*"
SHAPE = re.compile(
    rf"\((?=[^)]*[A-Z\d.³]|\w+,\)){AXIS}(?:,|(?:, {AXIS})+)\)"  # (N, 3), (V,), (B, ..., C)
    r"|\(\.\.\.\)|\(\)"  # any shape; a scalar
)
MAX_LINE = 100

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


def room_of(path: Path) -> str:
    """Return the folder below ``datagen``, or the module, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


SOURCES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
ROOMS = sorted({room_of(path) for path in SOURCES})


def public_members(parent: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator:
    """Yield public classes, functions and methods, each with its name."""
    for node in parent.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_members(node, f"{node.name}.")


def interface_methods(trees: list[ast.Module]) -> set[str]:
    """Return the names of the methods that a protocol or a class with subclasses here documents."""
    used = {
        ast.unparse(base)
        for tree in trees
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for base in kind.bases
    }
    return {
        method.name
        for tree in trees
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        if kind.name in used or any(ast.unparse(base).startswith("Protocol") for base in kind.bases)
        for method in kind.body
        if isinstance(method, Function) and ast.get_docstring(method)
    }


INHERITED = interface_methods(list(SOURCES.values()))


def annotations(node: Documented) -> str:
    """Return the annotations of a function's arguments and result, as one text."""
    if not isinstance(node, Function):
        return ""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg]
    found = [*(argument.annotation for argument in named if argument), node.returns]
    return " ".join(ast.unparse(one) for one in found if one is not None)


def problems(tree: ast.Module, inherited: set[str]) -> Iterator[str]:
    """Yield a line for each docstring of a module that breaks a rule."""
    for name, node in [("module", tree), *public_members(tree)]:
        where = f"{getattr(node, 'lineno', 1)}: {name}"
        text = " ".join((ast.get_docstring(node) or "").split())
        if not text:
            if "." not in name or name.rpartition(".")[2] not in inherited:
                yield f"{where} has no docstring"
            continue
        first = (ast.get_docstring(node) or "").splitlines()[0]
        if not first.endswith(".") or len(first) > MAX_LINE:
            yield f"{where}: expected a first line that is a sentence, at most {MAX_LINE} long"
        if ARRAYS.search(annotations(node)) and not SHAPE.search(text):
            yield f"{where} takes or returns an array; expected its shape, such as (N, 3)"


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_of_room(room):
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{problem}"
        for path, tree in SOURCES.items()
        if room_of(path) == room
        for problem in problems(tree, INHERITED)
    ]
    assert not found, "\n".join([f"{len(found)} docstrings", *found])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "module has no docstring"),
        ('"""No end"""', "expected a first line"),
        (f'"""{"a" * 100}."""', "expected a first line"),
        ('"""Two\nlines."""', "expected a first line"),
        ('"""M."""\nclass A: pass', "A has no docstring"),
        ('"""M."""\ndef f(): pass', "f has no docstring"),
        ('"""M."""\nclass A:\n    """A."""\n    def read(self): pass', "A.read has no docstring"),
        ('"""M."""\ndef f(x: Tensor):\n    """Return (at most 3, or more) of it."""', "shape"),
        ('"""M."""\ndef f() -> list[NDArray[Any]]:\n    """Return them (float32)."""', "shape"),
        ('"""M."""\ndef f(*x: Floats):\n    """Return it."""', "shape"),
        ('"""M."""\ndef f(*, x: Mesh):\n    """Return it."""', "shape"),
    ],
)
def test_broken_rules_are_found(source, expected):
    [problem] = problems(ast.parse(source), {"f"})
    assert expected in problem


@pytest.mark.parametrize(
    "shape",
    ["(N, 3)", "(V,)", "(B, ..., C)", "(N + 1 or 2N, 64)", "(B / W, ...)", "(wanted,)", "(...)"],
)
def test_shapes_are_known(shape):
    source = f'"""M."""\ndef f(x: Tensor):\n    """Return it {shape}."""\ndef _g(): pass'
    assert not list(problems(ast.parse(source), set()))


def test_method_of_an_interface_needs_no_second_docstring():
    source = '"""M."""\nclass A:\n    """A."""\n    def read(self) -> Tensor: pass'
    interface = 'class Reader(Protocol):\n    def read(self):\n        """Return it."""'
    names = interface_methods([ast.parse(interface)])
    assert not list(problems(ast.parse(source), names))
