"""An interrupted run ends with a clear message, keeps finished work, and leaves no process."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from datagen.engine.stage import RunOptions
from datagen.errors import StageError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset, storage
from tests.engine.toy import Toy, shard_hashes
from tests.processes import family, is_alive, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    Toy().run(Folder.at(root), LocalExecutor(), RunOptions())
    return shard_hashes(root / "toy")


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
        with pytest.raises(StageError, match=r"cannot write.*resumes where it stopped"):
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
    Toy().run_only(Folder.at(tmp_path), LocalExecutor(), RunOptions(only=(0,)))
    (toy / ".shard-00000.parquet.x7f3").write_bytes(b"PAR1 and no more")
    Toy().run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert shard_hashes(toy) == reference
    assert not list(toy.glob(".shard*"))


def test_memory_that_runs_out_is_a_failed_row_and_the_run_continues(tmp_path):
    code = (
        "import resource; from datagen.shards import Folder;"
        "from datagen.executors.local import LocalExecutor;"
        "from datagen.engine.stage import RunOptions; from tests.chaos.test_interruptions import"
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
from datagen.commands import run_and_print
from datagen.shards import Folder
from tests.engine.toy import Toy
def dispatch(words):
    flags = RunFlags(root=sys.argv[1], workers=int(sys.argv[3]))
    with closing(flags.executor()) as executor:
        toy = Toy(slow_s=0.2, count=200, journal=Path(sys.argv[2]))
        return run_and_print(toy, Folder.at(flags.root), executor, flags.options)
cli.dispatch = dispatch
sys.exit(cli.main(["toy"]))
"""


def wait_for_lines(journal: Path, count: int, process: "subprocess.Popen[str]") -> None:
    def is_there() -> bool:
        return journal.exists() and len(journal.read_text().split()) >= count

    assert wait_until(lambda: is_there() or process.poll() is not None, 90)
    assert process.poll() is None


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=[pytest.mark.ray, pytest.mark.slow])])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_says_what_is_safe_and_leaves_no_process(tmp_path, workers, number):
    journal = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(journal), str(workers)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_lines(journal, 5, process)
    theirs = [worker.pid for worker in family(process.pid).get("ray::_Worker", [])]
    assert bool(theirs) == (workers > 1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # like a terminal, to all processes
    else:
        process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "Finished work is safe; the same command resumes" in words
    assert "Traceback" not in words
    assert wait_until(lambda: not any(map(is_alive, theirs)), 20)
    made = len(journal.read_text().split())
    toy = tmp_path / "toy"
    finished = 3 * len([*toy.glob("shard*.parquet")]) + len([*toy.glob(".parts/*/0*.parquet")])
    assert made - workers <= finished <= made


def test_reader_that_has_seen_enough_ends_a_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "datagen.cli", "train", "--help"]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_rerun_after_interrupt_makes_only_missing_units_and_the_same_bytes(tmp_path, reference):
    journal = tmp_path / "journal"
    script = (
        "from datagen.shards import Folder; from datagen.executors.local import LocalExecutor;"
        "from datagen.engine.stage import RunOptions; from tests.engine.toy import Toy;"
        "from pathlib import Path;"
        f"Toy(slow_s=0.1, journal=Path({str(journal)!r}))"
        f".run(Folder.at({str(tmp_path)!r}), LocalExecutor(), RunOptions())"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, text=True)
    wait_for_lines(journal, 5, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "toy/manifest.json").exists()
    Toy(journal=journal).run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert shard_hashes(tmp_path / "toy") == reference
    made = journal.read_text().split()
    assert len(made) <= 11, "only the unit in flight may be made twice"
    assert not (tmp_path / "toy/.parts").exists()
