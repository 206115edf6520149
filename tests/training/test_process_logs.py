"""Lines that worker processes log reach the log of the run."""

import logging

from datagen.executors.followed_log import followed
from datagen.training.distributed import Ranks
from datagen.training.process_logs import log_file, logged_to


def test_lines_appended_to_a_followed_file_are_logged_without_their_time(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = log_file(tmp_path, 0)
    path.write_text("2026-01-02 03:04:05,678 of an earlier run\n")
    with followed(path), path.open("a") as file:
        file.write("2026-01-02 03:04:05,678 train: step 1 of 2\nTraceback: ä\n2026-01-02 hal")
    assert caplog.messages == ["train: step 1 of 2", "Traceback: ä"]


def test_file_that_is_not_there_yet_is_followed_from_its_start(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with followed(log_file(tmp_path / "logs", 0)), logged_to(tmp_path / "logs", Ranks()):
        logging.getLogger("datagen.training.trainer").info("train: step 1 of 2")
    # Once from this process's own logger, once from the file.
    assert caplog.messages == ["train: step 1 of 2"] * 2


def test_file_is_followed_to_its_end_after_an_error(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = log_file(tmp_path, 0)
    try:
        with followed(path):
            path.write_text("2026-01-02 03:04:05,678 last words\n")
            raise RuntimeError
    except RuntimeError:
        assert caplog.messages == ["last words"]
