"""``datagen export webdataset``: a tar a shard of renders, a sample a kept view."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datagen.exports.views import Views, claim, view_name
from datagen.shards import Row

TENSORS = ("scene_latent", "instance_latents", "occupancy")


def export_webdataset(views: Views, out: Path) -> int:
    """Write ``shard-00000.tar`` and so on; tars that are there are kept. Return their number.

    A sample has the key ``LLLLLL_VVV`` and the parts ``rgb.png``, ``instance_map.png``, ``json``
    (camera, pixels, frame), and with latents ``latents.npz`` (the tensors that are stored, by
    column). The same datasets give the same bytes.
    """
    claim(out, "webdataset", [d for d in (views.renders, views.latents) if d is not None])
    count = 0
    for index, layouts in views.shards():
        target = out / f"shard-{index:05d}.tar"
        count += 1
        if target.exists():
            continue
        unfinished = target.with_suffix(".tar.unfinished")
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for layout_id in layouts:
                for render, latent in views.of_layout(layout_id):
                    for part, data in sample(render, latent):
                        member = tarfile.TarInfo(f"{view_name(render)}.{part}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        unfinished.replace(target)
    return count


def sample(render: Row, latent: Row | None) -> Iterator[tuple[str, bytes]]:
    """Yield the parts of a sample by extension."""
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
