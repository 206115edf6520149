"""What stops a run ends it clearly, costs nothing that is finished, and leaves nobody behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError, StageError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset, storage
from tests.engine.test_stage import shard_hashes
from tests.stages.toy import Toy, ToySum

REPOSITORY = Path(__file__).resolve().parents[2]
LENIENT = RunOptions(max_failed_fraction=1.0)


def run_only(stage: Toy, root: Path, *units: int) -> list[str]:
    return stage.run_only(Folder.at(root), LocalExecutor(), RunOptions(only=units))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    Toy().run(Folder.at(root), LocalExecutor(), RunOptions())
    return shard_hashes(root / "toy")


def test_only_makes_these_units_and_leaves_the_rest_to_a_later_run(tmp_path, reference):
    journal = tmp_path / "journal"
    toy = Toy(journal=journal)
    assert [word.partition(" in")[0] for word in run_only(toy, tmp_path, 4, 7)] == [
        "4: made",
        "7: made",
    ]
    assert run_only(toy, tmp_path, 4) == ["4: there already"]
    assert not (tmp_path / "toy/manifest.json").exists()
    toy.run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert sorted(map(int, journal.read_text().split())) == list(range(10))
    assert shard_hashes(tmp_path / "toy") == reference


def test_only_seals_when_it_makes_the_last_ones(tmp_path, reference):
    run_only(Toy(), tmp_path, *range(9))
    run_only(Toy(), tmp_path, 9)
    assert open_dataset(tmp_path / "toy").manifest["rows"] == 15
    assert shard_hashes(tmp_path / "toy") == reference


def test_only_replays_one_failure_of_a_sealed_dataset_and_keeps_the_others(tmp_path):
    Toy(fail_on=(3, 4)).run(Folder.at(tmp_path), LocalExecutor(), LENIENT)
    [line] = run_only(Toy(fail_on=(3, 4)), tmp_path, 3)
    assert line == "3: failed: unit 3 cannot be made"
    assert [f["unit"] for f in open_dataset(tmp_path / "toy").manifest["failed"]] == [3, 4]
    run_only(Toy(), tmp_path, 3)
    sealed = open_dataset(tmp_path / "toy")
    assert [f["unit"] for f in sealed.manifest["failed"]] == [4]
    assert len(sealed.rows_of(3)) == 2 and len(sealed.rows_of(5)) == 2


def test_only_makes_a_failed_unit_of_an_unfinished_dataset_again(tmp_path):
    assert run_only(Toy(fail_on=(3,)), tmp_path, 3) == ["3: failed: unit 3 cannot be made"]
    assert run_only(Toy(), tmp_path, 3)[0].startswith("3: made")


def test_only_refuses_a_unit_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"--only 10: no such layout_id.*10 from 0 to 9"):
        run_only(Toy(), tmp_path, 10)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_folder_that_cannot_be_written_ends_the_run_and_the_rerun_completes(
    tmp_path, monkeypatch, reference, number
):
    written = []

    def full(path: Path, pieces: Iterable[bytes], write=storage.write_pieces) -> None:
        written.append(path)
        if len(written) == 5:
            raise OSError(number, os.strerror(number), str(path))
        write(path, pieces)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_pieces", full)
        with pytest.raises(StageError, match=r"cannot write.*goes on where it stopped"):
            Toy().run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    Toy().run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert shard_hashes(tmp_path / "toy") == reference


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_up_ends_the_run_and_more_room_completes_it(tmp_path, small_disk):
    toy = Toy(length=100_000)
    with pytest.raises(StageError, match=r"No space left on device.*run the same command again"):
        toy.run(Folder.at(small_disk), LocalExecutor(), RunOptions())
    assert not list(small_disk.glob("**/.*.parquet.*"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    toy.run(Folder.at(small_disk), LocalExecutor(), RunOptions())
    toy.run(Folder.at(tmp_path / "calm"), LocalExecutor(), RunOptions())
    assert shard_hashes(small_disk / "toy") == shard_hashes(tmp_path / "calm/toy")


def test_file_that_did_not_fit_leaves_no_remains(tmp_path):
    """The operating system itself refuses: no file may be larger than 4 kB."""
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from datagen.shards.storage import write_atomically;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "write_atomically(Path(sys.argv[1]) / 'shard.parquet', bytes(100_000))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert b"File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_half_written_shard_of_a_killed_run_is_cleared_away(tmp_path, reference):
    toy = tmp_path / "toy"
    run_only(Toy(), tmp_path, 0)
    (toy / ".shard-00000.parquet.x7f3").write_bytes(b"PAR1 and no more")
    Toy().run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert shard_hashes(toy) == reference
    assert not list(toy.glob(".shard*"))


def test_memory_that_runs_out_is_a_failed_row_and_the_run_goes_on(tmp_path):
    code = (
        "import resource; from datagen.shards import Folder;"
        "from datagen.executors.local import LocalExecutor;"
        "from datagen.engine.stage import RunOptions; from tests.engine.test_interruptions import"
        " Greedy; import sys; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30));"
        "Greedy().run(Folder.at(sys.argv[1]), LocalExecutor(), RunOptions(max_failed_fraction=1))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=REPOSITORY)
    manifest = open_dataset(tmp_path / "toy").manifest
    [failed] = manifest["failed"]
    assert failed["unit"] == 3 and "Unable to allocate" in failed["reason"]


class Greedy(Toy):
    """Wants 64 GB for its unit 3."""

    def open(self, inputs, context):
        @contextmanager
        def opened():
            with super(Greedy, self).open(inputs, context) as process:
                yield lambda unit: np.zeros(64 << 30) if unit == 3 else process(unit)

        return opened()


DRIVER = """
import sys
from pathlib import Path
from contextlib import closing
from datagen import cli
from datagen.arguments import RunFlags
from datagen.commands import make
from datagen.shards import Folder
from tests.stages.toy import Toy
def dispatch(words):
    flags = RunFlags(root=sys.argv[1], workers=int(sys.argv[3]))
    with closing(flags.executor()) as executor:
        toy = Toy(slow_s=0.2, count=200, journal=Path(sys.argv[2]))
        return make(toy, Folder.at(flags.root), executor, flags.options)
cli.dispatch = dispatch
sys.exit(cli.main(["toy"]))
"""


def wait_for_lines(journal: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 90
    while not (journal.exists() and len(journal.read_text().split()) >= count):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=[pytest.mark.ray, pytest.mark.slow])])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_says_what_is_safe_and_leaves_nobody(tmp_path, workers, number):
    journal = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(journal), str(workers)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_lines(journal, 5, process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal tells everybody
    else:
        process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "What is finished is safe; the same command goes on" in words
    assert "Traceback" not in words
    made = len(journal.read_text().split())
    time.sleep(1.0)
    assert len(journal.read_text().split()) == made
    toy = tmp_path / "toy"
    finished = 3 * len([*toy.glob("shard*.parquet")]) + len([*toy.glob(".parts/*/0*.parquet")])
    assert made - workers <= finished <= made


def test_workspace_behind_fsspec_holds_the_same_bytes(tmp_path, reference):
    """local:// is known to fsspec alone: no local paths, no pyarrow of its own."""
    root = Folder.at(f"local://{tmp_path}")
    assert not root.is_local
    Toy().run(root, LocalExecutor(), RunOptions())
    assert shard_hashes(tmp_path / "toy") == reference
    assert len(ToySum().run(root, LocalExecutor(), RunOptions())) == 10
    assert not list(tmp_path.glob("**/.*new"))


def test_every_unit_is_a_json_line_in_the_workspace(tmp_path):
    Toy(fail_on=(3,)).run(Folder.at(tmp_path), LocalExecutor(), LENIENT)
    lines = (tmp_path / "logs/toy.jsonl").read_text().splitlines()
    *done, end = [json.loads(line) for line in lines]
    assert [line["units"] for line in done] == [[unit] for unit in range(10)]
    assert done[3]["failed"] == {"3": "unit 3 cannot be made"}
    assert end["event"] == "end" and end["complete"] and end["done"] == 10 and end["failed"] == 1
    assert all(line["memory_mb"] > 10 for line in done)


def test_reader_that_has_seen_enough_ends_a_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "datagen.cli", "train", "--help"]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")
