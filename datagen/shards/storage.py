"""A folder on any filesystem that pyarrow or fsspec supports (local paths, s3://, gs://, …).

Files are written atomically: local files are written beside the target, flushed and renamed;
object stores only show finished uploads.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from datagen.errors import DatasetError

OBJECT_STORES = {"s3", "gcs", "abfs"}
"""Filesystems where a file appears when its upload is finished; elsewhere it is renamed."""

PIECE_BYTES = 1 << 22
"""Size of the pieces that large files are read and written in."""


@dataclass(frozen=True)
class Folder:
    """A folder by URL or absolute local path. Picklable; it holds no connection."""

    url: str
    """URL or absolute local path."""

    @classmethod
    def at(cls, path_or_url: str | Path) -> "Folder":
        """Return the folder at a URL, or at a local path made absolute."""
        text = str(path_or_url)
        return cls(text if "://" in text else str(Path(text).expanduser().absolute()))

    def __truediv__(self, name: str) -> "Folder":
        """Return the folder of a name in this one; options of the URL (``?region=…``) are kept."""
        if self.is_local:
            return Folder(f"{self.url.rstrip('/')}/{name}")
        place, mark, options = self.url.partition("?")
        return Folder(f"{place.rstrip('/')}/{name}{mark}{options}")

    def __str__(self) -> str:
        """Return the URL without a key and secret, for messages."""
        return re.sub(r"(?<=://)[^/@]*@", "", self.url)

    @property
    def is_local(self) -> bool:
        """Whether it is a local path."""
        return "://" not in self.url

    @property
    def path(self) -> Path:
        """The local path.

        Raises:
            DatasetError: the folder is remote.
        """
        if not self.is_local:
            raise DatasetError(
                f"{self.url} is not a local folder. Expected one, since this step works on local "
                "files; use a local --root."
            )
        return Path(self.url)

    def exists(self, name: str = "") -> bool:
        """Return whether the folder, or a file or folder in it, exists.

        Raises:
            DatasetError: the filesystem cannot be reached.
        """
        filesystem, path = self._resolve(name)
        with self._reached(name):
            return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)

    def is_free(self) -> bool:
        """Return whether there is nothing at this path, or only an empty folder."""
        filesystem, path = self._resolve("")
        kind = filesystem.get_file_info(path).type
        return kind == pafs.FileType.NotFound or (
            kind == pafs.FileType.Directory and not self.names()
        )

    def names(self, suffix: str = "") -> list[str]:
        """Return the sorted names of the entries that end with ``suffix``; [] if none."""
        infos = self._infos()
        return sorted(info.base_name for info in infos if info.base_name.endswith(suffix))

    def folders(self) -> list[str]:
        """Return the sorted names of the folders in this one; [] if none."""
        infos = self._infos()
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def sizes(self, suffix: str = "") -> dict[str, int]:
        """Return the sizes of the files that end with ``suffix``, bytes, by sorted name."""
        infos = self._infos()
        files = [info for info in infos if info.type == pafs.FileType.File]
        found = {i.base_name: int(i.size) for i in files if i.base_name.endswith(suffix)}
        return dict(sorted(found.items()))

    def _infos(self) -> list[pafs.FileInfo]:
        filesystem, path = self._resolve("")
        with self._reached(""):
            found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return list(found)

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, read in pieces."""
        filesystem, path = self._resolve(name)
        digest = hashlib.sha256()
        with filesystem.open_input_stream(path) as stream:
            while chunk := stream.read(PIECE_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def read_bytes(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is no such file.
            DatasetError: the filesystem cannot be reached.
        """
        filesystem, path = self._resolve(name)
        with self._reached(name), filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())

    def open_file(self, name: str) -> pa.NativeFile:
        """Open a file for random access, so that reading few columns reads few bytes.

        Raises:
            FileNotFoundError: there is no such file.
            DatasetError: the filesystem cannot be reached.
        """
        filesystem, path = self._resolve(name)
        with self._reached(name):
            return filesystem.open_input_file(path)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file atomically; missing folders are made."""
        self._write(name, [data])

    def write_file(self, name: str, source: Path) -> None:
        """Write a copy of a local file atomically, in pieces; missing folders are made."""
        with source.open("rb") as file:
            self._write(name, iter(lambda: file.read(PIECE_BYTES), b""))

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        filesystem, path = self._resolve(name)
        if self.is_local:
            return write_pieces(Path(path), pieces)
        with self._reached(name):
            _write_remote(filesystem, path, pieces)

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        filesystem, path = self._resolve(name)
        if self.exists(name):
            filesystem.delete_file(path)

    def delete_folder(self) -> None:
        """Delete the folder and its content, if it exists."""
        filesystem, path = self._resolve("")
        if self.exists():
            filesystem.delete_dir(path)

    def local_copy(self, name: str) -> Path:
        """Return a local path of a file: its own, or for a remote file that of a cached copy.

        The cache is the folder DATAGEN_CACHE, by default ~/.cache/datagen.
        """
        if self.is_local:
            return Path(self.url) / name
        data = self.read_bytes(name)
        digest = hashlib.sha256(data).hexdigest()
        cache = Path(os.environ.get("DATAGEN_CACHE", "~/.cache/datagen")).expanduser()
        target = cache / "files" / digest[:2] / f"{digest}{Path(name).suffix}"
        if not target.exists():
            write_atomically(target, data)
        return target

    @contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        """Turn errors of a remote filesystem into one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.is_local:
                raise
            raise DatasetError(
                f"{self / name if name else self}: the filesystem answers: {error}. Expected a "
                "reachable filesystem with access to this path; check its address, region and "
                "credentials (s3://: AWS_ENDPOINT_URL) and run the same command again, which "
                "resumes."
            ) from error

    def _resolve(self, name: str) -> tuple[pafs.FileSystem, str]:
        full = (self / name).url if name else self.url.rstrip("/")
        try:
            filesystem, path = pafs.FileSystem.from_uri(full)
        except pa.ArrowInvalid:
            return _resolve_by_fsspec(full)
        except OSError as error:
            raise DatasetError(
                f"{full}: this filesystem cannot be opened ({error}). {KNOWN_URLS}"
            ) from error
        return filesystem, path


KNOWN_URLS = (
    "Give a local path, or a URL that pyarrow (s3://, gs://, hdfs://) or an installed fsspec "
    "filesystem knows."
)


def _write_remote(filesystem: pafs.FileSystem, path: str, pieces: Iterable[bytes]) -> None:
    """Write a file that appears when it is complete: directly to an object store, else renamed."""
    folder, name = path.rsplit("/", 1)
    filesystem.create_dir(folder, recursive=True)
    target = path if filesystem.type_name in OBJECT_STORES else f"{folder}/.{name}.new"
    with filesystem.open_output_stream(target) as stream:
        for piece in pieces:
            stream.write(piece)
    if target != path:
        filesystem.move(target, path)


def _resolve_by_fsspec(url: str) -> tuple[pafs.FileSystem, str]:
    """Return filesystem and path of a URL whose scheme only fsspec supports."""
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise DatasetError(
            f"{url}: this filesystem cannot be opened ({error}). {KNOWN_URLS}"
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a local file beside its target, flush, then rename: a kill leaves no partial file."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a local file as ``write_atomically`` does, from pieces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    try:
        with file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)  # it would take space on a full disk
        raise
