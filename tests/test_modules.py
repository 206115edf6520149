"""Every test file says what it protects, and no test module leans on another."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("test_*.py"))


def imported(tree: ast.Module) -> set[str]:
    """Return the names of all modules that a file imports, also those inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_file_says_in_one_line_what_it_protects(path):
    words = ast.get_docstring(ast.parse(path.read_text()))
    assert words, "expected a docstring of one line at the top"
    assert words.splitlines()[0].endswith((".", ":")), "expected a whole sentence in its first line"


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix()
)
def test_file_imports_no_test_module_and_no_conftest(path):
    own = "tests." + path.relative_to(TESTS).with_suffix("").as_posix().replace("/", ".")
    for name in imported(ast.parse(path.read_text())) - {own}:
        last = name.rpartition(".")[2]
        is_test = (
            name.startswith("tests.") and (TESTS / f"{name[6:].replace('.', '/')}.py").exists()
        )
        assert not (is_test and (last.startswith("test_") or last == "conftest")), name
