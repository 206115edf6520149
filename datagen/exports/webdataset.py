"""``datagen export webdataset``: a tar for each shard of renders, a sample for each kept view."""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from datagen.exports.parts import view_name
from datagen.shards import Folder, Row
from datagen.shards.workspace import Workspace

TENSORS = ("scene_latent", "instance_latents", "occupancy")


@dataclass(frozen=True)
class WebDataset:
    """``shard-00000.tar`` and so on; tars that exist are kept.

    A sample has the key ``LLLLLL_VVV`` and the parts ``rgb.png``, ``instance_map.png``, ``json``
    (camera, visible pixels, frame). Where there are latents, ``latents.npz`` has the stored
    tensors by the names of their columns. The same datasets give the same bytes.
    """

    name: ClassVar[str] = "webdataset"
    final: ClassVar[str | None] = None
    has_instances: ClassVar[bool] = False

    workspace: Workspace
    out: Folder
    with_latents: bool

    @classmethod
    def of(cls, workspace: Workspace, out: Folder, *, instances: bool) -> Self:
        return cls(workspace, out, workspace.dataset("latents") is not None)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("renders", "latents") if self.with_latents else ("renders",)

    def part(self, shard: int) -> str:
        return f"shard-{shard:05d}.tar"

    def write_shard(self, shard: int, layout_ids: Sequence[int]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / self.part(shard)
            with tarfile.open(made, "w", format=tarfile.USTAR_FORMAT) as tar:
                for layout_id in layout_ids:
                    for render, latent in self._views(layout_id):
                        for part, data in sample(render, latent):
                            member = tarfile.TarInfo(f"{view_name(render)}.{part}")
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
            self.out.write_file(made.name, made)

    def finish(self, shards: Sequence[int]) -> str:
        return f"{len(shards)} tars"

    def _views(self, layout_id: int) -> Iterator[tuple[Row, Row | None]]:
        if self.with_latents:
            yield from self.workspace.encoded_views(layout_id)
        else:
            yield from ((view, None) for view in self.workspace.kept_views(layout_id))


def sample(render: Row, latent: Row | None) -> Iterator[tuple[str, bytes]]:
    """Yield each part of a sample: its extension and its bytes."""
    about = {name: render[name] for name in ("layout_id", "view_index", "width", "height")}
    about |= {name: render[name] for name in ("visible_px", "amodal_px")}
    about |= {name: render[name].tolist() for name in ("world_to_camera", "intrinsics")}
    if latent is not None:
        about["world_to_canonical"] = latent["world_to_canonical"].tolist()
    yield "rgb.png", render["rgb"]
    yield "instance_map.png", render["instance_map"]
    yield "json", json.dumps(about, sort_keys=True).encode()
    if latent is not None:
        buffer = io.BytesIO()
        stored = {name: latent[name] for name in TENSORS if latent[name] is not None}
        np.savez_compressed(buffer, **stored)
        yield "latents.npz", buffer.getvalue()
