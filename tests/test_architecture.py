"""Imports point one way, and what is heavy or GPL stays where it belongs."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "datagen"

LAYERS = [
    {"__init__", "cli", "commands", "arguments", "run", "doctor"},
    {"report", "exports", "verify"},
    {"stages"},
    {"engine"},
    {"executors", "blender", "models", "training", "sampling", "evaluation"},
    {"assets", "layouts", "views", "voxels", "shards"},
    {"core", "errors", "log"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer_of(path: Path) -> int:
    return RANK[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_imports_point_towards_core(path):
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "datagen" and len(parts) > 1:
            assert RANK[parts[1]] >= layer_of(path), f"{path} imports {module}"


def test_only_blender_scripts_import_bpy_and_only_ray_executors_import_ray():
    importers = {"bpy": set(), "ray": set()}
    for path in PACKAGE.rglob("*.py"):
        for module in imported_modules(path):
            if module.split(".")[0] in importers:
                importers[module.split(".")[0]].add(path.relative_to(PACKAGE).as_posix())
    files = {f"executors/{name}.py" for name in ("ray", "ray_session", "ray_train")}
    assert importers == {"bpy": set(), "ray": files}


def test_blender_scripts_import_only_what_blender_has():
    allowed = {"bpy", "bmesh", "mathutils", "numpy", *sys.stdlib_module_names}
    own = {path.stem for path in (REPOSITORY / "blender_scripts").glob("*.py")}
    for path in (REPOSITORY / "blender_scripts").glob("*.py"):
        for module in imported_modules(path):
            known = module.split(".")[0] in allowed | own
            assert known or module.startswith("datagen.core"), f"{path} imports {module}"


def test_importing_the_library_starts_neither_blender_nor_ray():
    code = (
        "import sys, datagen, datagen.stages.pipeline, datagen.shards;"
        "heavy = {'bpy', 'ray', 'open3d'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_every_package_is_listed_for_the_wheel():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts) for path in PACKAGE.rglob("__init__.py")
    }
    outside = {"blender_scripts", "manifests", "pipelines"}
    assert listed == found | {f"datagen.{name}" for name in outside}
