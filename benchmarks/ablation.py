"""The paper's ablation at small scale: instances alone, + scene-context attention, + view-centric.

``python benchmarks/ablation.py --root WORKSPACE --out FOLDER`` trains the small model three times
(seeds) in each of three ways, on the same views with the same number of steps. It prints instance
IoU, scene IoU and collision rates of held-out views, as mean ± standard deviation over the seeds.
Held out are one view of each training layout, and other layouts. WORKSPACE has assets, layouts of
one size and renders:

    datagen assets --root WORKSPACE --num-objects 800 --seed 2
    datagen layouts --root WORKSPACE --n 300 --min-objects 3 --max-objects 3 --split train
    datagen render --root WORKSPACE --views 4 --resolution-px 192

The first two ways have their latents in the world's frame (``encode --view-frame world``), where no
image shows which way is X. The third rotates each view's scene to its camera. Every run is scored
in its own frame, without registration, so a scene with a wrong rotation scores low.

The same command resumes after a kill: finished runs are read, an unfinished one resumes from its
last state.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from held_out import (
    View,
    constant_grid,
    constant_scores,
    link_inputs,
    part_of,
    read_views,
    sample_views,
    score_grids,
    table,
)
from numpy.typing import NDArray
from torch import nn

from datagen.core.fields import deciding_fields
from datagen.engine.stage import RunOptions
from datagen.evaluation.collision import TOLERANCE, collision_rates, scene_collisions
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.models.devices import denormals_flushed
from datagen.models.named_checkpoints import load_autoencoder
from datagen.sampling.scenes import SamplerConfig
from datagen.sampling.surfaces import surface_from_logits
from datagen.shards import Folder, open_dataset
from datagen.stages.encode import EncodeLatents
from datagen.training import SceneLoader, SceneSource, StreamConfig, TrainConfig, objective_of
from datagen.training.checkpoints import Checkpoints
from datagen.training.trainer import train_flow

Frame = Literal["world", "yaw"]

VARIANTS: dict[str, tuple[Frame, int | None]] = {
    "instances alone": ("world", 0),
    "+ scene-context attention": ("world", None),
    "+ view-centric space": ("yaw", None),
}
"""Frame of the latents, and blocks that see the scene (None: the model's own)."""

FRAMES: tuple[Frame, ...] = ("world", "yaw")
COLUMNS = ("instance IoU", "scene IoU", "Col-O", "Col-S", "missing")
SETS = {"held-out views": "last", "held-out layouts": "val"}
SETTINGS = "settings.json"
SCORES = "scores.json"
STATE_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Train and score every variant with every seed."""

    root: Path
    """Workspace with assets, layouts and renders."""

    out: Path
    """Latents of both frames, and a folder a run."""

    steps: int = 800
    """Of 8 views, each run: six minutes of one core."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights, order, times and noise; the views are always the same ones."""

    val_fraction: float = 0.15
    """Share of the layouts that are held out."""

    scored_views: int = 24
    """Views of each of the two held-out sets that are sampled."""

    constant_views: int = 200
    """Training views that the constant grid is fitted to."""

    threads: int = 1
    """For torch."""


@dataclass(frozen=True)
class Views:
    """The views of one frame, by what they are for."""

    training: SceneSource
    scored: dict[str, list[View]]


def encode(config: Ablation, frame: Frame) -> SceneSource:
    """Return the views of a frame; encodes them the first time."""
    workspace = config.out / frame
    link_inputs(config.root, workspace, ("assets", "layouts", "renders"))
    stage = EncodeLatents(view_frame=frame)
    stage.run(
        Folder.at(workspace),
        LocalExecutor(WorkerSettings(device="cpu"), threads=config.threads),
        RunOptions(),
    )
    return SceneSource.open(
        open_dataset(workspace / "latents"), open_dataset(workspace / "renders")
    )


def split(config: Ablation, source: SceneSource, decoder: nn.Module) -> Views:
    """Hold out some layouts, and a view of each of the others."""
    size_px = objective_of(TrainConfig()).image_size_px
    scored = {}
    for name, part in SETS.items():
        chosen = part_of(source, part, config.val_fraction)
        scored[name] = read_views(chosen, decoder, size_px, config.scored_views)
    return Views(part_of(source, "rest", config.val_fraction), scored)


def run(
    config: Ablation, views: Views, variant: str, seed: int, decoder: nn.Module
) -> dict[str, Any]:
    """Return the scores of one run by held-out set; trains if it has none."""
    training = TrainConfig(
        max_steps=config.steps,
        batch_size=8,
        low_rank_mean=False,  # it memorises the training views, and none of those are scored
        lr=1.5e-3,
        weight_decay=0.05,
        scene_context_blocks=VARIANTS[variant][1],
        checkpoint_every=STATE_EVERY,
        keep_last=1,
        validate_every=config.steps,
        sample_every=0,
        seed=seed,
    )
    folder = config.out / f"{variant.strip('+ ').replace(' ', '-')}-{seed}"
    check_settings(folder, config, training, views)
    done = folder / SCORES
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    objective = objective_of(training)
    stream = StreamConfig(size_px=objective.image_size_px, seed=seed)
    loader = SceneLoader([views.training], stream, objective.decode, cache_bytes=2**30)
    others = [view.sample for view in views.scored["held-out layouts"]]
    model = train_flow(loader, others, objective, folder)
    scores: dict[str, Any] = {
        name: score(list(sample_views(model, decoder, part, SamplerConfig())), part)
        for name, part in views.scored.items()
    }
    scores["held-out layouts"]["loss"] = last_validation_loss(folder)
    done.write_text(json.dumps(scores, indent=1) + "\n")
    Checkpoints(folder, 1).delete()
    return scores


def score(logits: list[NDArray[np.float32]], views: list[View]) -> dict[str, float]:
    """Return IoU and collision rates of sampled instances (N, 64, 64, 64), a view each."""
    scores = score_grids([grids > 0 for grids in logits], views)
    surfaces = [[surface_from_logits(grid) for grid in grids] for grids in logits]
    scenes = [scene_collisions(meshes, tolerances=(TOLERANCE,)) for meshes in surfaces]
    if not any(scene.num_objects for scene in scenes):
        return scores | {"Col-O": float("nan"), "Col-S": float("nan")}
    rates = collision_rates(scenes)
    return scores | {"Col-O": rates.col_o, "Col-S": rates.col_s}


def check_settings(folder: Path, config: Ablation, training: TrainConfig, views: Views) -> None:
    """Note what a run is made with, or check that an earlier one was made alike."""
    settings = {
        "network": objective_of(training).network_args(()),
        "train": deciding_fields(training),
        "latents": views.training.latents.fingerprint,
        "views": len(views.training),
        "scored_views": config.scored_views,
    }
    path = folder / SETTINGS
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=1) + "\n")
    if json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path}: the run was made with other settings. Give another --out.")


def last_validation_loss(folder: Path) -> float:
    """Return the flow loss of the finished model on held-out layouts."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return float([record["val_loss"] for record in records if "val_loss" in record][-1])


def constant(config: Ablation, views: Views, decoder: nn.Module) -> dict[str, dict[str, float]]:
    """Return the scores of the best constant grid, as ``run`` does."""
    grid = constant_grid(views.training, decoder, config.constant_views)
    return {
        name: dict.fromkeys(COLUMNS, np.nan) | constant_scores(grid, part)
        for name, part in views.scored.items()
    }


def summary(runs: list[dict[str, float]]) -> dict[str, str]:
    """Return mean ± standard deviation of every score over the seeds."""
    return {name: mean_and_deviation([one[name] for one in runs]) for name in COLUMNS}


def mean_and_deviation(values: list[float]) -> str:
    """Return mean ± standard deviation; of one value, itself."""
    known = [value for value in values if not np.isnan(value)]  # no surface: no collision rate
    if not known:
        return "none"
    mean = f"{np.mean(known):.3f}"
    return f"{mean} ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else mean


def main(config: Ablation) -> None:
    """Run what is missing, then print a table for each held-out set."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(config.threads)
    decoder = load_autoencoder("small", "decoder", torch.device("cpu"))
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    with denormals_flushed():
        views = {frame: split(config, encode(config, frame), decoder) for frame in FRAMES}
        for seed in config.seeds:  # whole rounds: what is there at any time can be compared
            for variant, (frame, _) in VARIANTS.items():
                found[variant].append(run(config, views[frame], variant, seed, decoder))
        constants = {frame: constant(config, views[frame], decoder) for frame in FRAMES}
    print(
        f"{len(views['yaw'].training)} training views, {config.steps} steps, {config.seeds} seeds"
    )
    for name in SETS:
        rows = [(variant, summary([one[name] for one in runs])) for variant, runs in found.items()]
        rows += [(f"constant, {f} frame", summary([constants[f][name]])) for f in FRAMES]
        print(f"\n{name} ({len(views['yaw'].scored[name])})\n\n{table(rows)}")
    losses = [
        (variant, {"loss": mean_and_deviation([one["held-out layouts"]["loss"] for one in runs])})
        for variant, runs in found.items()
    ]
    print(f"\nflow loss of held-out layouts (comparable in one frame only)\n\n{table(losses)}")


if __name__ == "__main__":
    main(tyro.cli(Ablation))
