"""What rows of a workspace refer to, read once and only if a row asks."""

from functools import cache, cached_property

from datagen.errors import DatasetError
from datagen.shards import Dataset, Folder, Row, open_dataset
from datagen.shards.dataset import MANIFEST

ViewKey = tuple[int, int]
"""``layout_id`` and ``view_index``."""


class References:
    """Ids that a workspace's datasets hold. None: the dataset is absent or cannot be read."""

    def __init__(self, root: Folder) -> None:
        self.root = root
        self.notes: list[str] = []
        """Why references to a dataset are not followed."""
        self.dataset = cache(self._open)
        self._names = cache(lambda folder: frozenset((root / folder).names()))

    def has_file(self, folder: str, path: str) -> bool:
        """Say whether a file is there, ``path`` being relative to a dataset's folder."""
        parent, _, name = f"{folder}/{path}".rpartition("/")
        return name in self._names(parent)

    @cached_property
    def asset_status(self) -> dict[str, str] | None:
        """Status by ``asset_id``."""
        rows = self._rows("assets", ["asset_id", "status"])
        return None if rows is None else {row["asset_id"]: row["status"] for row in rows}

    @cached_property
    def num_placements(self) -> dict[int, int] | None:
        """Number of placements by ``layout_id``."""
        rows = self._rows("layouts", ["layout_id", "placements"])
        return None if rows is None else {r["layout_id"]: len(r["placements"]) for r in rows}

    @cached_property
    def kept_views(self) -> set[ViewKey] | None:
        """Views that were kept."""
        rows = self._rows("renders", ["layout_id", "view_index", "kept"])
        return None if rows is None else {_key(row) for row in rows if row["kept"]}

    @cached_property
    def encoded_views(self) -> dict[ViewKey, int] | None:
        """Number of instances of every view that has latents."""
        rows = self._rows("latents", ["layout_id", "view_index", "num_instances"])
        return None if rows is None else {_key(row): row["num_instances"] for row in rows}

    @cached_property
    def predicted_views(self) -> set[ViewKey] | None:
        """Views that were sampled."""
        rows = self._rows("predictions", ["layout_id", "view_index"])
        return None if rows is None else {_key(row) for row in rows}

    def _open(self, name: str) -> Dataset | None:
        folder = self.root / name
        return open_dataset(folder) if folder.exists(MANIFEST) else None

    def _rows(self, name: str, columns: list[str]) -> list[Row] | None:
        try:
            dataset = self.dataset(name)
            return None if dataset is None else list(dataset.rows(columns))
        except DatasetError as error:
            self.notes.append(f"references to {name} were not followed: {error}")
            return None


def _key(row: Row) -> ViewKey:
    return row["layout_id"], row["view_index"]
