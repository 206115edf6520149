"""Folders far away: names join URLs with options, and what cannot be reached says so."""

import pytest

from datagen.errors import DatasetError
from datagen.shards import Folder


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
