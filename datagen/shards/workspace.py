"""A workspace: the datasets of all stages, what joins their rows, and the meshes of its scenes."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from datagen.core.meshes import Mesh
from datagen.errors import DatasetError
from datagen.shards.dataset import MANIFEST, Dataset, Row, open_dataset
from datagen.shards.declared import INPUTS
from datagen.shards.output import PARTS
from datagen.shards.scenes import SceneMeshes, SceneReader
from datagen.shards.storage import Folder
from datagen.shards.tables import Table


class Workspace:
    """A folder, local or remote, that holds the datasets of all stages.

    Datasets are opened when they are first asked for, and kept. A workspace can be sent to another
    process, which opens the datasets there itself.

    Args:
        root: the folder.
    """

    def __init__(self, root: Folder) -> None:
        self.root = root
        self._datasets: dict[str, Dataset] = {}

    @classmethod
    def at(cls, path_or_url: str | Path) -> "Workspace":
        """Return the workspace at a local path or a URL; nothing is read yet."""
        return cls(Folder.at(path_or_url))

    def __reduce__(self) -> tuple[type["Workspace"], tuple[Folder]]:
        return Workspace, (self.root,)

    def dataset(self, folder: str) -> Dataset | None:
        """Return a stage's sealed dataset, or None while it is missing or unfinished.

        Args:
            folder: of the dataset, in the workspace, for example ``renders``.

        Raises:
            DatasetError: it has a manifest that cannot be read, or that is of a newer version.
        """
        if folder not in self._datasets and (self.root / folder).exists(MANIFEST):
            self._datasets[folder] = open_dataset(self.root / folder)
        return self._datasets.get(folder)

    def folders(self, table: Table) -> list[str]:
        """Return the folders with datasets of a table, sealed or unfinished; [] if none.

        Args:
            table: one folder, ``renders``; or a nested one, ``scenes/NAME`` for each there is.
        """
        if not table.nested:
            return [table.folder] if (self.root / table.folder).names() else []
        found = [f"{table.folder}/{name}" for name in (self.root / table.folder).folders()]
        return [name for name in found if holds_dataset(self.root / name)]

    def require(self, folder: str, for_whom: str, command: str | None = None) -> Dataset:
        """Return a stage's sealed dataset.

        Args:
            folder: of the dataset, in the workspace.
            for_whom: what needs it, for the message, for example ``export``.
            command: what makes it. None: the verb of a dataset that stages read, else a pipeline.

        Raises:
            DatasetError: it is missing or unfinished; the message names the command that makes it.
        """
        dataset = self.dataset(folder)
        if dataset is None:
            table = INPUTS.get(folder)
            command = command or f"datagen {table.verb if table else 'run PIPELINE'}"
            raise DatasetError(
                f"{for_whom}: {self.root / folder} is missing or unfinished, and it is needed "
                f"here. Run `{command} --root {self.root}` first."
            )
        return dataset

    @cached_property
    def assets(self) -> dict[str, Row]:
        """The rows of all assets by ``asset_id``; {} if there are none yet."""
        dataset = self.dataset("assets")
        return {} if dataset is None else {row["asset_id"]: row for row in dataset}

    def layout(self, layout_id: int) -> Row | None:
        """Return one layout's row; None if there is none."""
        dataset = self.dataset("layouts")
        return None if dataset is None else _only(dataset.rows_of(layout_id))

    def view(
        self, layout_id: int, view_index: int, columns: Sequence[str] | None = None
    ) -> Row | None:
        """Return one view's row of ``renders``, kept or dropped, images as stored; None if none.

        Args:
            layout_id: the scene.
            view_index: the view of the scene.
            columns: those that are read; None: all.
        """
        return self._row_of_view("renders", layout_id, view_index, columns)

    def latent(
        self, layout_id: int, view_index: int, columns: Sequence[str] | None = None
    ) -> Row | None:
        """Return one view's row of ``latents``; None if there is none. Arguments as of ``view``."""
        return self._row_of_view("latents", layout_id, view_index, columns)

    def kept_views(self, layout_id: int) -> Iterator[Row]:
        """Iterate over the ``renders`` rows of a scene's kept views, in order.

        Raises:
            DatasetError: the renders are missing or unfinished.
        """
        rows = self.require("renders", "kept views").rows_of(layout_id)
        return (row for row in rows if row["kept"])

    def encoded_views(self, layout_id: int) -> Iterator[tuple[Row, Row]]:
        """Iterate over a scene's encoded views in order: their rows of ``renders`` and ``latents``.

        Kept views that were not chosen for encoding are left out.

        Raises:
            DatasetError: the renders or the latents are missing or unfinished.
        """
        rows = self.require("latents", "encoded views").rows_of(layout_id)
        latents = {row["view_index"]: row for row in rows}
        for view in self.kept_views(layout_id):
            if view["view_index"] in latents:
                yield view, latents[view["view_index"]]

    def mesh(self, asset_id: str) -> Mesh:
        """Return an asset's vertices (V, 3) and faces (F, 3); metres, the asset's own frame.

        Raises:
            DatasetError: the assets are missing or unfinished.
            RowError: there is no such asset, or its geometry is missing or damaged.
        """
        return self._scenes.mesh(asset_id)

    def scene_meshes(self, layout: Row, *, prepared: bool = False) -> SceneMeshes:
        """Return the meshes of a layout's placements in the world; see ``SceneReader.read``.

        Args:
            layout: a row of ``layouts``.
            prepared: whether the files for Blender are wanted too.

        Raises:
            DatasetError: the assets are missing or unfinished.
            RowError: a placed asset is missing, or its geometry is missing or damaged.
        """
        return self._scenes.read(layout, prepared=prepared)

    @cached_property
    def _scenes(self) -> SceneReader:
        return SceneReader(self.require("assets", "scenes' meshes"))

    def _row_of_view(
        self, folder: str, layout_id: int, view_index: int, columns: Sequence[str] | None
    ) -> Row | None:
        dataset = self.dataset(folder)
        if dataset is None:
            return None
        return _only(dataset.rows_of(layout_id, columns, view_index=view_index))


def _only(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None


def holds_dataset(folder: Folder) -> bool:
    """Return whether a folder holds a dataset or the beginning of one."""
    return any(name in (MANIFEST, PARTS) or name.endswith(".parquet") for name in folder.names())
