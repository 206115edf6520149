"""Folders far away: names join URLs with options, and what cannot be reached says so."""

import errno
import os
import stat

import pytest

from datagen.errors import DatasetError
from datagen.shards import Folder
from datagen.shards.storage import write_atomically, write_pieces


def test_names_join_a_url_before_its_options():
    folder = Folder.at("s3://bucket/ws/?region=us-east-1&scheme=http") / "latents"
    assert folder.url == "s3://bucket/ws/latents?region=us-east-1&scheme=http"


def test_question_mark_in_a_local_name_is_a_name(tmp_path):
    folder = Folder.at(tmp_path / "what?") / "here"
    folder.write_bytes("a", b"1")
    assert (tmp_path / "what?" / "here" / "a").read_bytes() == b"1"


def test_url_is_read_and_written(tmp_path):
    folder = Folder.at(f"file://{tmp_path}") / "deep"
    folder.write_bytes("in/a", b"1")
    assert folder.names() == ["in"] and (folder / "in").names() == ["a"]
    assert [path.name for path in (tmp_path / "deep/in").iterdir()] == ["a"]  # nothing beside it


def test_large_file_is_copied_whole(tmp_path):
    (tmp_path / "from").write_bytes(b"abc" * 3_000_000)
    for folder in (Folder.at(tmp_path / "to"), Folder.at(f"file://{tmp_path}/far")):
        folder.write_file("x/y", tmp_path / "from")
        assert folder.read_bytes("x/y") == b"abc" * 3_000_000


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_file_can_be_read_by_others_when_it_is_new_and_when_it_replaces_one(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = Folder.at(tmp_path)
        for content in (b"new", b"replaces it"):
            folder.write_bytes("a", content)
            (tmp_path / "from").write_bytes(content)
            folder.write_file("b", tmp_path / "from")
            write_atomically(tmp_path / "c", content)
            for name in "abc":
                assert (tmp_path / name).read_bytes() == content
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    finally:
        os.umask(before)


@pytest.mark.parametrize("there", [True, False])
def test_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, there):
    def pieces():
        yield b"begun"
        raise OSError(errno.ENOSPC, "no space left")

    if there:
        write_atomically(tmp_path / "a", b"old")
    with pytest.raises(OSError, match="no space"):
        write_pieces(tmp_path / "a", pieces())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"old"] if there else [])


def test_folder_is_free_until_something_is_there(tmp_path):
    folder = Folder.at(tmp_path / "out")
    assert folder.is_free()
    (tmp_path / "out").mkdir()
    assert folder.is_free()
    folder.write_bytes("a", b"")
    assert not folder.is_free() and not (folder / "a").is_free()


@pytest.mark.slow  # the client tries for six seconds
def test_store_that_does_not_answer_is_one_line_without_the_secret():
    options = "scheme=http&region=us-east-1&endpoint_override=127.0.0.1:9"
    folder = Folder.at(f"s3://key:secret@bucket/ws?{options}")
    with pytest.raises(DatasetError, match=r"the filesystem answers: .*run the same") as raised:
        folder.read_bytes("manifest.json")
    assert str(raised.value).startswith("s3://bucket/ws/manifest.json?")
