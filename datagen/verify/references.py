"""The ids and files that rows of a workspace refer to; each is read once, when it is needed."""

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import TypeVar

from datagen.errors import DatasetError
from datagen.shards import Dataset, Folder, Row
from datagen.shards.workspace import Workspace
from datagen.verify.shards import MANIFEST_KEYS

Ids = TypeVar("Ids")

VIEW_COLUMNS = ["layout_id", "view_index"]

ViewKey = tuple[int, int]
"""``layout_id`` and ``view_index``."""


class References:
    """The ids in a workspace's datasets. None: the dataset is missing or cannot be read.

    Args:
        root: the workspace.
    """

    def __init__(self, root: Folder) -> None:
        self.root = root
        self._workspace = Workspace(root)
        self.notes: list[str] = []
        """Datasets whose references were not followed, with the reason."""
        self.dataset = cache(self._open)
        self._names = cache(lambda folder: frozenset((root / folder).names()))

    def has_file(self, folder: str, path: str) -> bool:
        """Return whether a file exists; ``path`` is relative to a dataset's folder."""
        parent, _, name = f"{folder}/{path}".rpartition("/")
        return name in self._names(parent)

    @cached_property
    def stores_tokens(self) -> bool:
        """Whether each row of ``latents`` has a file of image tokens."""
        latents = self.dataset("latents")
        return latents is not None and "image_tokens" in latents.fields.get("store", "")

    @cached_property
    def asset_status(self) -> dict[str, str] | None:
        """Status by ``asset_id``."""
        columns = ["asset_id", "status"]
        return self._collect(
            "assets", columns, lambda rows: {row["asset_id"]: row["status"] for row in rows}
        )

    @cached_property
    def num_placements(self) -> dict[int, int] | None:
        """Number of placements by ``layout_id``."""
        columns = ["layout_id", "placements"]
        return self._collect(
            "layouts", columns, lambda rows: {r["layout_id"]: len(r["placements"]) for r in rows}
        )

    @cached_property
    def kept_views(self) -> set[ViewKey] | None:
        """Views that were rendered and kept."""
        return self._collect(
            "renders",
            [*VIEW_COLUMNS, "kept"],
            lambda rows: {_key(row) for row in rows if row["kept"]},
        )

    @cached_property
    def encoded_views(self) -> dict[ViewKey, int] | None:
        """Number of instances of every view that has latents."""
        return self._collect(
            "latents",
            [*VIEW_COLUMNS, "num_instances"],
            lambda rows: {_key(row): row["num_instances"] for row in rows},
        )

    @cached_property
    def predicted_views(self) -> set[ViewKey] | None:
        """Views that were sampled."""
        return self._collect("predictions", VIEW_COLUMNS, lambda rows: {_key(row) for row in rows})

    def _open(self, name: str) -> Dataset | None:
        try:
            dataset = self._workspace.dataset(name)
        except DatasetError as error:
            self.notes.append(f"references to {name} were not followed: {error}")
            return None
        is_whole = dataset is not None and set(MANIFEST_KEYS) <= dataset.manifest.keys()
        return dataset if is_whole else None

    def _collect(
        self, name: str, columns: list[str], ids: Callable[[Iterator[Row]], Ids]
    ) -> Ids | None:
        try:
            dataset = self.dataset(name)
            return None if dataset is None else ids(dataset.rows(columns))
        except DatasetError as error:
            self.notes.append(f"references to {name} were not followed: {error}")
            return None


def _key(row: Row) -> ViewKey:
    return row["layout_id"], row["view_index"]
