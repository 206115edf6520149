"""Objects, a random scene, views of it, their voxels; all of it read back. Under a minute."""

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import datagen
from datagen import stages

for stage in (
    stages.PrepareAssets(num_objects=12),  # built-in furniture and tableware
    stages.SampleLayouts(num_layouts=1, min_objects=5),  # at random, without collisions
    stages.RenderViews(num_views=4, resolution_px=256, elevation_range_deg=(10.0, 60.0)),
    stages.EncodeLatents(store=("occupancy",)),  # voxels in the frame of each view
):
    _, lines = datagen.run_stage(stage, "hello")
    print(*lines, sep="\n")

view = next(datagen.Workspace.at("hello").kept_views(0))
image, instance_map = datagen.decode_view(view)  # (256, 256, 4) RGBA; (256, 256), 0: background
print("pixels of each placement:", np.bincount(instance_map.ravel())[1:])
Image.fromarray(np.hstack([image, datagen.color_instances(instance_map)])).save("hello/view.png")

table = pq.read_table("hello/latents/shard-00000.parquet")  # a row for each kept view
bits = np.frombuffer(table["occupancy"][0].as_py(), np.uint8)
grids = np.unpackbits(bits, bitorder="little").reshape(-1, 64, 64, 64).astype(bool)
print("voxels of the scene, then of each placement:", grids.sum(axis=(1, 2, 3)))
Image.fromarray(datagen.draw_voxels(grids[1:])).save("hello/voxels.png")
