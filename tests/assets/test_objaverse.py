"""Protects the source ``objaverse``: choices, licenses and downloads, without any network.

Each case runs in a process of its own: the package chooses its cache folder at import.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.assets.procedural import ProceduralSource

NUM_OBJECTS = 6
LICENSES = ["by", "cc0", "by-nc", "by", "by-sa", "odd"]
CATEGORIES = {"mug": [1, 4], "chair": [2, 5], "table": [0]}

LIST = r"""
import json, sys
from datagen.assets.source import SourceOptions, open_source
from pathlib import Path
options = json.loads(sys.argv[1])
if "uids" in options:
    options["uids"] = Path(options["uids"])
source = open_source("objaverse", SourceOptions(**options))
objects = source.list_objects()
paths = {o.uid: str(source.fetch(o, Path()).path)
         for o in objects if o.fault is None}
print(json.dumps([
    dict(uid=o.uid, name=o.name, license=o.license, author=o.author, category=o.category,
         asset_id=o.asset_id, fault=o.fault and o.fault.reason, path=paths.get(o.uid))
    for o in objects
]))
"""

SERVE = r"""
import os, shutil, urllib.request
from urllib.error import HTTPError

def urlretrieve(url, target):
    # The server, played by the cache of another home. It refuses one object.
    source = os.path.join(os.environ["SERVED"], url.partition("/resolve/main/")[2])
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(url + "\n")
    if source.endswith("2.glb"):
        raise HTTPError(url, 404, "Not Found", {}, open(os.environ["JOURNAL"], "rb"))
    shutil.copy(source, target)

urllib.request.urlretrieve = urlretrieve
"""


def uid_of(index: int) -> str:
    return f"{index:032x}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the cache of six objects, as the package would have left it."""
    home = tmp_path_factory.mktemp("home")
    cache = home / ".objaverse/hf-objaverse-v1"
    (cache / "glbs/000-001").mkdir(parents=True)
    (cache / "metadata").mkdir()
    source = ProceduralSource(num_objects=NUM_OBJECTS)
    paths, metadata = {}, {}
    for index, obj in enumerate(source.list_objects()):
        uid = uid_of(index)
        paths[uid] = f"glbs/000-001/{uid}.glb"
        (cache / paths[uid]).write_bytes(source.fetch(obj, home).path.read_bytes())
        metadata[uid] = {
            "uid": uid,
            "name": obj.name,
            "license": LICENSES[index],
            "user": {"displayName": f"Maker {index}", "username": f"maker{index}"},
            "categories": [{"name": "furniture-home"}],
        }
    lvis = {name: [uid_of(index) for index in members] for name, members in CATEGORIES.items()}
    for name, content in {
        "object-paths": paths,
        "lvis-annotations": lvis,
        "metadata/000-001": metadata,
    }.items():
        with gzip.open(cache / f"{name}.json.gz", "wt") as file:
            json.dump(content, file)
    return home


def run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    # Port 9 answers nobody: whatever is asked for over the network fails at once.
    environment = os.environ | {"HOME": str(home), "https_proxy": "http://127.0.0.1:9"} | more
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def listed(home: Path, **options: object) -> list[dict[str, str]]:
    result = run(home, "-c", LIST, json.dumps(options))
    assert result.returncode == 0, result.stderr
    found: list[dict[str, str]] = json.loads(result.stdout)  # and nothing else was printed
    return found


def test_uid_file_gives_its_objects_with_their_metadata_from_the_cache(home, tmp_path):
    uids = tmp_path / "uids.txt"
    uids.write_text(f"{uid_of(4)}\n{uid_of(1)}.glb\n\n{uid_of(4)}\n")
    first, second = listed(home, uids=str(uids))
    assert [first["uid"], second["uid"]] == [uid_of(1), uid_of(4)]
    assert (first["license"], first["author"]) == ("CC0-1.0", "Maker 1")
    assert (first["name"], first["category"]) == ("mug", "furniture-home")
    assert Path(first["path"]).read_bytes()[:4] == b"glTF"
    assert first["asset_id"] != second["asset_id"]


def test_lvis_categories_give_their_objects_and_their_names(home):
    found = listed(home, lvis_categories=["mug", "table"])
    assert {obj["uid"]: obj["category"] for obj in found} == {
        uid_of(0): "table",
        uid_of(1): "mug",
        uid_of(4): "mug",
    }


def test_random_draw_has_allowed_licenses_only_and_follows_the_seed(home):
    allowed = {"licenses": ["CC-BY-4.0", "CC0-1.0"], "num_objects": 2}
    draws = [[obj["uid"] for obj in listed(home, **allowed, seed=seed)] for seed in range(6)]
    assert all(len(draw) == 2 for draw in draws)
    assert {uid for draw in draws for uid in draw} == {uid_of(0), uid_of(1), uid_of(3)}
    assert draws[0] == [obj["uid"] for obj in listed(home, **allowed, seed=0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lvis_categories": ["mugg"]}, "no LVIS category 'mugg'"),
        ({"num_objects": 2, "licenses": ["MIT"]}, "--license-allow"),
        ({"uids": "nowhere.txt"}, "nowhere.txt: no such file"),
    ],
)
def test_choice_without_objects_is_an_error(home, options, words):
    result = run(home, "-c", LIST, json.dumps(options))
    assert words in result.stderr


def test_unknown_uids_are_named(home, tmp_path):
    (tmp_path / "uids.txt").write_text(f"{uid_of(1)}\nnonsense\n")
    result = run(home, "-c", LIST, json.dumps({"uids": str(tmp_path / "uids.txt")}))
    assert "1 of 2 uids are not in Objaverse 1.0 (first: nonsense)" in result.stderr


def test_download_brings_what_is_missing_once_and_a_refused_object_is_set_aside(home, tmp_path):
    uids = tmp_path / "uids.txt"
    uids.write_text("\n".join(uid_of(index) for index in (0, 2, 3)))
    journal = tmp_path / "journal"
    served = {"SERVED": str(home / ".objaverse/hf-objaverse-v1"), "JOURNAL": str(journal)}
    arguments = ["-c", SERVE + LIST, json.dumps({"uids": str(uids)})]
    result = run(tmp_path, *arguments, **served)
    assert result.returncode == 0, result.stderr
    faults = [obj["fault"] for obj in json.loads(result.stdout)]  # nothing else was printed
    assert faults == [None, "fetch_failed", None]
    asked = journal.read_text().splitlines()
    assert sum(line.endswith(f"{uid_of(0)}.glb") for line in asked) == 1
    run(tmp_path, *arguments, **served)
    again = journal.read_text().splitlines()[len(asked) :]
    assert again and all(line.endswith(f"{uid_of(2)}.glb") for line in again)


def test_damaged_list_in_the_cache_is_a_one_line_error(home, tmp_path):
    cache = tmp_path / ".objaverse/hf-objaverse-v1"
    cache.mkdir(parents=True)
    whole = (home / ".objaverse/hf-objaverse-v1/object-paths.json.gz").read_bytes()
    (cache / "object-paths.json.gz").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path, "-c", LIST, json.dumps({"num_objects": 2}))
    assert "is damaged" in result.stderr.splitlines()[-1]


def test_without_network_and_cache_one_clear_line_is_printed(tmp_path):
    arguments = ["-m", "datagen.cli", "assets", "--source", "objaverse", "--num-objects", "3"]
    result = run(tmp_path, *arguments, "--root", str(tmp_path / "root"))
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("datagen: ")]
    assert len(errors) == 1
    assert "cannot be downloaded" in errors[0] and "Traceback" not in result.stderr


@pytest.mark.blender
@pytest.mark.slow
def test_whole_verb_prepares_cached_objects_and_sets_other_licenses_aside(home, tmp_path):
    (tmp_path / "uids.txt").write_text("\n".join(uid_of(index) for index in (0, 1, 2)))
    root = tmp_path / "root"
    arguments = ["--source", "objaverse", "--uids", str(tmp_path / "uids.txt")]
    arguments += ["--license-allow", "CC0-1.0", "CC-BY-4.0", "--root", str(root)]
    result = run(home, "-m", "datagen.cli", "assets", *arguments)
    assert result.returncode == 0, result.stderr
    counts = json.loads((root / "assets/manifest.json").read_text())["counts"]
    assert counts == {"ok": 2, "quarantined_license": 1}
