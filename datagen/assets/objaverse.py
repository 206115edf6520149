"""Source ``objaverse``: objects of Objaverse 1.0, by uid, by LVIS category or at random.

Downloads go through the objaverse package, which caches them in ``~/.objaverse/hf-objaverse-v1``.
Cached files are not downloaded again, so a machine without network can use a copy of that folder.
"""

import contextlib
import gzip
import io
import json
import logging
import urllib.error
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, TypeVar

import objaverse

from datagen.assets.licenses import SKETCHFAB_SPDX, license_of_sketchfab
from datagen.assets.objects import (
    Fault,
    FetchedModel,
    ImportOptions,
    SourceObject,
    file_asset_id,
    listing_fingerprint,
)
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, DatasetError, RowError

logger = logging.getLogger(__name__)

_OPTIONS = ImportOptions(unit_m=None)
"""The files have no reliable unit, so the longest side is scaled to 1 m."""

DOWNLOADS = 8
BATCH = 64
"""Objects between two log lines about the progress."""

T = TypeVar("T")


@dataclass(frozen=True)
class ObjaverseChoice:
    """Which objects are used: those of ``uids``, else of ``lvis_categories``, else any."""

    uids: Path | None = None
    """A file with one uid per line."""
    lvis_categories: tuple[str, ...] = ()
    num_objects: int | None = None
    """Number of objects: the first uids of the file, or a random choice."""
    licenses: tuple[str, ...] = ()
    """SPDX identifiers to which a random choice is limited; empty: any license."""
    seed: int = 0
    """Seed of the random choice."""


class ObjaverseSource:
    """Objects of Objaverse 1.0. Listing them downloads them, because asset_ids hash their bytes.

    Args:
        choice: which objects.

    Raises:
        ConfigError: nothing was chosen.
    """

    name = "objaverse"

    def __init__(self, choice: ObjaverseChoice) -> None:
        if choice.uids is None and not choice.lvis_categories and choice.num_objects is None:
            raise ConfigError(
                "assets: --source objaverse was given without a choice among its 800,000 objects. "
                "Give --uids FILE, --lvis-categories NAME ..., or --num-objects N."
            )
        self.choice = choice

    def fingerprint(self) -> str:
        """Return the sha256 over the objects' bytes and metadata."""
        return listing_fingerprint(self.list_objects())

    def list_objects(self) -> list[SourceObject]:
        """Return the chosen objects, sorted by uid; those that cannot be fetched are set aside."""
        return self._listing[0]

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the file in the package's cache; it is downloaded if it is missing."""
        found = self._listing[1].get(obj.uid)
        if found is None or not found.is_file():
            found = download([obj.uid]).get(obj.uid)
        if found is None:
            raise RowError(f"objaverse gives no file for {obj.uid}")
        return FetchedModel(found, obj.options)

    @cached_property
    def _listing(self) -> tuple[list[SourceObject], dict[str, Path]]:
        """The objects, and the available files by uid."""
        uids = sorted(self._choose())
        annotations = self._annotations(uids)
        paths = self._paths(
            [uid for uid in uids if is_allowed(annotations.get(uid, {}), self.choice.licenses)]
        )
        categories = self._lvis_categories() if self.choice.lvis_categories else {}
        objects = [
            describe_annotated(uid, annotations.get(uid, {}), paths.get(uid), categories.get(uid))
            for uid in uids
        ]
        return objects, paths

    def _choose(self) -> list[str]:
        choice = self.choice
        if choice.uids is not None:
            uids = read_uids(choice.uids)
            self._refuse_unknown(uids)
            return uids[: choice.num_objects]
        if choice.lvis_categories:
            pool = sorted(self._lvis_categories())
        else:
            pool = sorted(_call_package(objaverse.load_uids))
        return self._draw(pool)

    def _refuse_unknown(self, uids: list[str]) -> None:
        known = set(_call_package(objaverse.load_uids))
        unknown = [uid for uid in uids if uid not in known]
        if unknown:
            raise DatasetError(
                f"{self.choice.uids}: {len(unknown)} of {len(uids)} uids are not in Objaverse 1.0 "
                f"(first: {unknown[0]}). Expected 32 letters and digits each; remove them."
            )

    def _draw(self, pool: list[str]) -> list[str]:
        """Return ``num_objects`` of the pool with an allowed license, in random order."""
        wanted = self.choice.num_objects or len(pool)
        order = rng_for(self.choice.seed, "objaverse").permutation(len(pool))
        drawn: list[str] = []
        for start in range(0, len(pool), BATCH):
            if len(drawn) >= wanted:
                break
            uids = [pool[index] for index in order[start : start + BATCH]]
            if self.choice.licenses:
                found = self._annotations(uids)
                uids = [u for u in uids if is_allowed(found.get(u, {}), self.choice.licenses)]
            drawn += uids
        if not drawn:
            raise DatasetError(
                f"objaverse: none of {len(pool)} objects has one of the licenses "
                f"{', '.join(self.choice.licenses)}. Expected any of "
                f"{', '.join(SKETCHFAB_SPDX)}; correct --license-allow."
            )
        if len(drawn) < wanted and self.choice.num_objects:
            logger.warning(
                f"assets: only {len(drawn)} objects have an allowed license, not {wanted}"
            )
        return drawn[:wanted]

    def _lvis_categories(self) -> dict[str, str]:
        """Return the category of each object in the chosen categories, by uid."""
        found: dict[str, list[str]] = _call_package(objaverse.load_lvis_annotations)
        unknown = [name for name in self.choice.lvis_categories if name not in found]
        if unknown:
            near = [name for name in found if unknown[0].lower() in name.lower()][:5]
            raise ConfigError(
                f"assets: no LVIS category {unknown[0]!r}. Expected one of {len(found)}"
                f"{', such as ' + ', '.join(near) if near else ''}; correct --lvis-categories."
            )
        return {uid: name for name in self.choice.lvis_categories for uid in found[name]}

    def _annotations(self, uids: list[str]) -> dict[str, Any]:
        return _call_package(lambda: objaverse.load_annotations(uids)) if uids else {}

    def _paths(self, uids: list[str]) -> dict[str, Path]:
        """Return local files by uid, downloaded if needed; refused ones are left out."""
        paths: dict[str, Path] = {}
        for start in range(0, len(uids), BATCH):
            batch = uids[start : start + BATCH]
            paths |= download(batch)
            if len(uids) > BATCH:
                logger.info(f"objaverse: {start + len(batch)} of {len(uids)} objects downloaded")
        return paths


def download(uids: list[str]) -> dict[str, Path]:
    """Return local files by uid, downloaded in parallel; refused ones are left out.

    If the server refuses one of several, they are downloaded again one by one.
    """
    try:
        processes = min(DOWNLOADS, len(uids))
        found = _call_package(lambda: objaverse.load_objects(uids, download_processes=processes))
        return {uid: Path(path) for uid, path in found.items()}
    except RowError as error:
        if len(uids) == 1:
            logger.warning(f"objaverse: {uids[0]}: {error}")
            return {}
    return {uid: path for one in uids for uid, path in download([one]).items()}


def describe_annotated(
    uid: str, annotation: dict[str, Any], path: Path | None, category: str | None
) -> SourceObject:
    """Return one object; without a file it is set aside.

    Args:
        uid: Objaverse's.
        annotation: Objaverse's metadata of the object; may be empty.
        path: its file, if it could be downloaded.
        category: its LVIS category; None: Sketchfab's.
    """
    words = annotation.get("categories") or [{}]
    user = annotation.get("user") or {}
    data = path.read_bytes() if path is not None else uid.encode()
    return SourceObject(
        uid=uid,
        name=annotation.get("name") or uid,
        category=category or words[0].get("name", ""),
        license=license_of_sketchfab(annotation.get("license")),
        author=user.get("displayName") or user.get("username") or "",
        asset_id=file_asset_id([(".glb", data)], _OPTIONS),
        options=_OPTIONS,
        fault=None if path is not None else Fault("fetch_failed", "it could not be downloaded"),
    )


def is_allowed(annotation: dict[str, Any], licenses: Iterable[str]) -> bool:
    """Return whether an object's license is among ``licenses``; an empty list allows all."""
    allowed = set(licenses)
    return not allowed or license_of_sketchfab(annotation.get("license")) in allowed


def read_uids(path: Path) -> list[str]:
    """Return the uids of a file, one per line, without repetitions.

    Raises:
        ConfigError: the file is missing or empty.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Expected one uid per line; correct --uids.")
    uids = dict.fromkeys(
        line.strip().removesuffix(".glb") for line in path.read_text().splitlines() if line.strip()
    )
    if not uids:
        raise ConfigError(f"{path}: the file is empty. Expected one uid per line; correct --uids.")
    return list(uids)


def _call_package(function: Callable[[], T]) -> T:
    """Return what a function of the package returns; what it prints is discarded.

    Raises:
        RowError: the server refused a file.
        DatasetError: a file is neither cached nor can it be downloaded, or it is damaged.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return function()
        except urllib.error.HTTPError as error:
            raise RowError(
                f"the server answered {error.code} {error.reason} for {error.url}"
            ) from error
        except MaybeEncodingError as error:
            # An HTTPError cannot be pickled between processes: it holds an open connection.
            raise RowError("the server refused one of several files") from error
        except (EOFError, gzip.BadGzipFile, json.JSONDecodeError) as error:
            raise DatasetError(
                f"objaverse: a list in {objaverse.BASE_PATH} is damaged ({error}), probably by an "
                "interrupted download. Expected complete *.json.gz files; delete the newest of "
                "them and run again."
            ) from error
        except OSError as error:
            raise DatasetError(
                f"objaverse: a file is not in {objaverse.BASE_PATH} and cannot be downloaded "
                f"({error}). Expected a network connection or a filled cache; connect, or copy "
                "~/.objaverse/hf-objaverse-v1 from a machine that has it."
            ) from error
