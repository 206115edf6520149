"""Folders, here and in remote storage: whole files, joined URLs, and clear errors."""

import errno
import hashlib
import os
import stat
import threading

import pytest

from datagen.errors import DatasetError
from datagen.shards import Folder
from datagen.shards.storage import write_atomically, write_pieces
from tests.processes import wait_until


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


def test_file_behind_a_url_appears_when_it_is_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    folder = Folder.at(f"file://{tmp_path}/far")
    writer = threading.Thread(target=folder.write_file, args=("a", pipe))
    writer.start()
    with pipe.open("wb") as source:
        source.write(b"half")
        source.flush()
        assert wait_until(lambda: any((tmp_path / "far").glob("*")) or not writer.is_alive())
        assert folder.names() == [".a.new"]
        source.write(b" and half")
    writer.join()
    assert folder.names() == ["a"] and folder.read_bytes("a") == b"half and half"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_folder_lists_measures_and_deletes_its_files(tmp_path, scheme):
    folder = Folder.at(f"{scheme}{tmp_path}") / "here"
    assert folder.names() == [] and folder.sizes() == {} and not folder.exists()
    folder.delete("a.txt")
    folder.delete_folder()
    contents = {"b.txt": b"", "a.txt": bytes(10), "c.bin": bytes(range(256)) * 20_000}
    for name, data in contents.items():
        folder.write_bytes(name, data)
    folder.write_bytes("sub/d.txt", b"1")
    assert folder.exists() and folder.exists("a.txt") and not folder.exists("d.txt")
    assert folder.names() == ["a.txt", "b.txt", "c.bin", "sub"]
    assert folder.names(".txt") == ["a.txt", "b.txt"]
    assert folder.sizes(".txt") == {"a.txt": 10, "b.txt": 0}
    assert list(folder.sizes()) == sorted(contents)
    for name, data in contents.items():
        assert folder.sha256(name) == hashlib.sha256(data).hexdigest()
        with folder.open_file(name) as file:
            assert file.read() == data
    folder.delete("a.txt")
    folder.delete("no-such")
    assert folder.names() == ["b.txt", "c.bin", "sub"]
    folder.delete_folder()
    assert not folder.exists()


def test_local_copy_is_the_file_itself_or_one_in_the_cache_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("DATAGEN_CACHE", str(tmp_path / "cache"))
    local, far = Folder.at(tmp_path / "a"), Folder.at(f"file://{tmp_path}/a")
    local.write_bytes("x.npz", b"first")
    assert local.local_copy("x.npz") == tmp_path / "a" / "x.npz"
    copies = []
    for content in (b"first", b"other", b"first"):
        local.write_bytes("x.npz", content)
        copies.append(far.local_copy("x.npz"))
        assert copies[-1].read_bytes() == content and copies[-1].suffix == ".npz"
        assert copies[-1].stem == hashlib.sha256(content).hexdigest()
        assert copies[-1].is_relative_to(tmp_path / "cache")
    assert copies[0] == copies[2] != copies[1]
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 2


def test_path_of_a_folder_behind_a_url_is_refused():
    with pytest.raises(DatasetError, match=r"file:///x is not a local folder.*local --root"):
        _ = Folder.at("file:///x").path


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
