"""Public names: imported when first used, known to type checkers, and enough for a first script."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import datagen
from datagen import stages

REPOSITORY = Path(__file__).resolve().parents[1]
HELLO = REPOSITORY / "examples/hello.py"


@pytest.mark.parametrize("package", [datagen, stages], ids=["datagen", "stages"])
def test_names_are_those_that_type_checkers_see(package):
    [block] = [
        node
        for node in ast.parse(Path(package.__file__).read_text()).body
        if isinstance(node, ast.If)
    ]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen.pop("stages", "datagen") == "datagen"
    assert seen == package._HOMES


@pytest.mark.parametrize("package", [datagen, stages], ids=["datagen", "stages"])
def test_every_public_name_is_documented_and_there(package):
    for name in package.__all__:
        assert getattr(package, name).__doc__
        assert package is stages or f"``{name}``" in package.__doc__


def test_pipelines_are_a_package_too():
    code = "from datagen import pipelines; from datagen.pipelines.demo import PIPELINE"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_readme_shows_the_example_as_it_is():
    assert len(HELLO.read_text().splitlines()) <= 30
    assert f"```python\n{HELLO.read_text()}```" in (REPOSITORY / "README.md").read_text()


@pytest.mark.blender
@pytest.mark.slow
def test_the_example_runs_and_leaves_what_it_says(tmp_path):
    ran = subprocess.run(
        [sys.executable, HELLO], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    made = [line.split(":")[0] for line in ran.stdout.splitlines()[:4]]
    assert made == ["assets", "layouts", "render", "encode"]
    assert (tmp_path / "hello/view.png").is_file()
    assert (tmp_path / "hello/voxels.png").is_file()
