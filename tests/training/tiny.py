"""The smallest structure model that can be trained, and a training of it."""

import json
from pathlib import Path

from datagen.models import SceneModel
from datagen.training import SceneLoader, StreamConfig, TrainConfig, train_flow
from datagen.training.distributed import Ranks
from datagen.training.objectives.structure.objective import StructureObjective
from tests.training.scenes import source_of

TINY = {
    "flow": {
        "resolution": 16,
        "in_channels": 8,
        "out_channels": 8,
        "model_channels": 16,
        "cond_channels": 8,
        "num_blocks": 2,
        "num_heads": 2,
        "patch_size": 8,
        "qk_rms_norm": True,
        "predicts": "x_0",
        "scene_context_attn_num": 1,
    },
    "image_encoder": {"size_px": 32, "channels": 8, "num_blocks": 1, "num_heads": 2},
}
CONFIG = TrainConfig(
    max_steps=9,
    batch_size=2,
    instances_per_view=2,
    warmup_steps=2,
    checkpoint_every=4,
    validate_every=4,
    seed=5,
)


def train(
    folder: Path, scenes: Path, config: TrainConfig = CONFIG, num_workers: int = 0, **arguments
) -> SceneModel:
    objective = StructureObjective(config, TINY)
    source, ranks = source_of(scenes), Ranks.current()
    views = ([source], StreamConfig(size_px=32, seed=config.seed), objective.decode)
    loader = SceneLoader(*views, rank=ranks.rank, world=ranks.world, num_workers=num_workers)
    held_out = list(SceneLoader(*views, stop=3))
    return train_flow(loader, held_out, objective, folder, **arguments)


def read_log(folder: Path) -> list[dict]:
    """Return the log's lines but those that say how fast it was."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record for record in records if "data_wait" not in record]


def states(folder: Path) -> list[str]:
    return [path.name for path in sorted((folder / "checkpoints").glob("*"))]
