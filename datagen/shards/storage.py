"""A folder on any filesystem that pyarrow or fsspec knows (local paths, s3://, gs://, …).

A file exists completely or not at all: local files are written beside the target, flushed and
renamed; object stores only show finished uploads.
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


@dataclass(frozen=True)
class Folder:
    """A folder by URL or absolute local path. Small and picklable; holds no connection."""

    url: str

    @classmethod
    def at(cls, path_or_url: str | Path) -> "Folder":
        """Return the folder at a URL, or at a local path made absolute."""
        text = str(path_or_url)
        return cls(text if "://" in text else str(Path(text).expanduser().absolute()))

    def __truediv__(self, name: str) -> "Folder":
        """Return the folder of a name in this one; a URL's options (``?region=…``) go with it."""
        if self.is_local:
            return Folder(f"{self.url.rstrip('/')}/{name}")
        place, mark, options = self.url.partition("?")
        return Folder(f"{place.rstrip('/')}/{name}{mark}{options}")

    def __str__(self) -> str:
        """Return the URL for messages: without the key and secret that it may hold."""
        return re.sub(r"(?<=://)[^/@]*@", "", self.url)

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @property
    def path(self) -> Path:
        """The local path; only for a local folder."""
        if not self.is_local:
            raise DatasetError(
                f"{self.url} is not a local folder; this step works on local files. "
                "Use a local --root for it."
            )
        return Path(self.url)

    def exists(self, name: str = "") -> bool:
        filesystem, path = self._resolve(name)
        with self._reached(name):
            return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)

    def is_free(self) -> bool:
        """Say whether nothing is here: no folder and no file, or an empty folder."""
        filesystem, path = self._resolve("")
        kind = filesystem.get_file_info(path).type
        return kind == pafs.FileType.NotFound or (
            kind == pafs.FileType.Directory and not self.names()
        )

    def names(self, suffix: str = "") -> list[str]:
        """Return the sorted names of the entries that end with the suffix; [] if none."""
        infos = self._infos()
        return sorted(info.base_name for info in infos if info.base_name.endswith(suffix))

    def folders(self) -> list[str]:
        """Return the sorted names of the folders in this one; [] if none."""
        infos = self._infos()
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def sizes(self, suffix: str = "") -> dict[str, int]:
        """Return the sizes in bytes of the files that end with the suffix, by sorted name."""
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
        filesystem, path = self._resolve(name)
        with self._reached(name), filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())

    def open_file(self, name: str) -> pa.NativeFile:
        """Open a file for reading at any place of it, so that few columns cost few bytes."""
        filesystem, path = self._resolve(name)
        with self._reached(name):
            return filesystem.open_input_file(path)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a whole file atomically, making its folders."""
        self._write(name, [data])

    def write_file(self, name: str, source: Path) -> None:
        """Write a copy of a local file atomically, piece by piece, making its folders."""
        with source.open("rb") as file:
            self._write(name, iter(lambda: file.read(PIECE_BYTES), b""))

    def _write(self, name: str, pieces: Iterable[bytes]) -> None:
        filesystem, path = self._resolve(name)
        if self.is_local:
            return write_pieces(Path(path), pieces)
        with self._reached(name):
            _write_far(filesystem, path, pieces)

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        filesystem, path = self._resolve(name)
        if self.exists(name):
            filesystem.delete_file(path)

    def delete_folder(self) -> None:
        """Delete the folder and all in it, if it is there."""
        filesystem, path = self._resolve("")
        if self.exists():
            filesystem.delete_dir(path)

    def local_copy(self, name: str) -> Path:
        """Return a local path of the file: itself, or a copy in the cache under its sha256."""
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
        """Turn what goes wrong on the way to another machine into one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.is_local:
                raise
            raise DatasetError(
                f"{self / name if name else self}: the filesystem answers: {error}. Expected one "
                "that can be reached, with access to this place (for s3://, see AWS_ENDPOINT_URL, "
                "the region and the credentials). What is finished is safe; run the same command "
                "again."
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


def _write_far(filesystem: pafs.FileSystem, path: str, pieces: Iterable[bytes]) -> None:
    """Write a file that appears when it is whole: at once, or renamed where uploads show early."""
    folder, name = path.rsplit("/", 1)
    filesystem.create_dir(folder, recursive=True)
    target = path if filesystem.type_name in OBJECT_STORES else f"{folder}/.{name}.new"
    with filesystem.open_output_stream(target) as stream:
        for piece in pieces:
            stream.write(piece)
    if target != path:
        filesystem.move(target, path)


def _resolve_by_fsspec(url: str) -> tuple[pafs.FileSystem, str]:
    """Open a URL whose scheme pyarrow does not know with fsspec, which has some dozens more."""
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError, OSError) as error:
        raise DatasetError(
            f"{url}: this filesystem cannot be opened ({error}). {KNOWN_URLS}"
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, flush, then rename: a killed process leaves no half file."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file as ``write_atomically`` does, from pieces that need not lie in memory."""
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
        Path(file.name).unlink(missing_ok=True)  # on a full disk, what was written is in the way
        raise
