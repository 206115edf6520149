"""Does the model generalise? Sampled voxel IoU over training, on held-out views and layouts.

``python benchmarks/generalisation.py --root WORKSPACE --out FOLDER`` trains the small model on the
workspace's latents, without one view of each layout and without some layouts, and scores its
states on views trained on, on held-out views of the same layouts, and on other layouts. Beside
them it prints an untrained model, the best constant grid, and the decoded true latents, which are
what a flow model could reach.

``--models PATH ...`` scores existing trainings instead, finished or running: states
(``model/checkpoints/step-….pt``), models (NAME of NAME.json and NAME.safetensors), or folders with
any of them. Scores are kept in FOLDER/scores.jsonl, and a state is scored once. So the same
command, run several times during a training, extends the curve. ``--sets`` names the views:

    --sets "held-out views=WORKSPACE:last" "other layouts=WORKSPACE:val" "objects=OTHER:all"

Parts: ``train`` and ``val``, layouts as ``datagen train`` splits them; ``last``, the last view of
each layout of ``train``; ``rest``, the others of them; ``all``.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import tyro
from held_out import (
    View,
    constant_grid,
    constant_scores,
    part_of,
    read_views,
    reconstruct,
    sample_views,
    score_grids,
    table,
)
from torch import nn

from datagen.models import SceneModel, load_scene_model
from datagen.models.devices import denormals_flushed, torch_device
from datagen.models.named_checkpoints import load_autoencoder
from datagen.sampling.scenes import SamplerConfig
from datagen.shards import open_dataset
from datagen.training import (
    FlowMatching,
    SceneLoader,
    SceneSource,
    StreamConfig,
    TrainConfig,
    objective_of,
    train_flow,
)

SIZE_PX = objective_of(TrainConfig()).image_size_px
SCORES = "scores.jsonl"
NO_STEP = 10**9
"""Of a model that does not say how long it was trained: behind those that do."""
COLUMNS = ("instance IoU", "scene IoU", "missing")


@dataclass(frozen=True, kw_only=True)
class Generalisation:
    """Score models on views that they were not trained on."""

    root: Path
    """Workspace that the models are trained on."""

    out: Path
    """Gets the scores, and the model trained here."""

    models: tuple[Path, ...] = ()
    """States, models, or folders of them; none: train here."""

    sets: tuple[str, ...] = ()
    """NAME=WORKSPACE:PART each; default: rest, last and val of ``root``."""

    steps: int = 1200
    """Of the training here."""

    points: int = 4
    """Number of its states that are scored, evenly spaced."""

    seed: int = 0
    """Of it."""

    val_fraction: float = 0.15
    """Share of the layouts held out; of ``--models``, what they were trained with."""

    num_views: int = 16
    """Views of each set that are sampled."""

    constant_views: int = 200
    """Training views that the constant grid is fitted to."""

    cfg_strength: float = 0.5
    """Guidance: so short a training teaches too little of what to be guided away from."""

    decoder: str = "small"
    """Of the latents."""

    device: str = "auto"
    """Where models are sampled."""

    threads: int = 1
    """For torch."""


def read_part(root: Path, part: str, val_fraction: float) -> SceneSource:
    """Return some of a workspace's views: see ``part_of``."""
    source = SceneSource.open(open_dataset(root / "latents"), open_dataset(root / "renders"))
    return part_of(source, part, val_fraction)


def read_sets(config: Generalisation, decoder: nn.Module) -> dict[str, list[View]]:
    """Return the views to score, by the set's name."""
    named = config.sets or tuple(
        f"{name}={config.root}:{part}"
        for name, part in (
            ("views trained on", "rest"),
            ("held-out views", "last"),
            ("other layouts", "val"),
        )
    )
    sets = {}
    for text in named:
        name, _, place = text.partition("=")
        root, _, part = place.rpartition(":")
        source = read_part(Path(root), part, config.val_fraction)
        sets[name] = read_views(source, decoder, SIZE_PX, config.num_views)
    return sets


def train(config: Generalisation) -> Path:
    """Train the model here, or resume; return the folder with its states."""
    every = max(1, config.steps // config.points)
    training = TrainConfig(
        max_steps=config.steps,
        checkpoint_every=every,
        keep_last=config.points + 1,
        sample_every=0,
        seed=config.seed,
    )
    source = read_part(config.root, "rest", config.val_fraction)
    stream = StreamConfig(size_px=SIZE_PX, seed=config.seed)
    folder = config.out / "model"
    objective = objective_of(training)
    train_flow(
        SceneLoader([source], stream, objective.decode, cache_bytes=2**30),
        [],
        objective,
        folder,
        device=str(torch_device(config.device)),
    )
    return folder / "checkpoints"


def find_models(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield states and weights, those of folders too."""
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("**/step-*.pt"))
            yield from sorted(path.glob("**/*.safetensors"))
        elif path.suffix in (".pt", ".safetensors"):
            yield path
        else:
            yield path.with_name(path.name + ".safetensors")


def read_state(path: Path) -> tuple[SceneModel, SceneModel, int]:
    """Return a state's averaged model, the untrained one, and the step."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    settings = state["config"]
    flow = {f.name: settings.pop(f.name) for f in fields(FlowMatching)}
    objective = objective_of(TrainConfig(**settings, flow=FlowMatching(**flow)))
    args = objective.network_args(())
    model, fresh = objective.build_network(args), objective.build_network(args)
    model.load_state_dict(state["ema"])
    return model, like(model, fresh), int(state["step"])


def read_model(path: Path) -> tuple[SceneModel, SceneModel]:
    """Return the model of a .safetensors file, and an untrained one."""
    model = load_scene_model(str(path.with_suffix("")), device="cpu")
    torch.manual_seed(0)
    fresh = SceneModel(**json.loads(path.with_suffix(".json").read_text())["args"])
    return model, like(model, fresh)


def like(model: SceneModel, fresh: SceneModel) -> SceneModel:
    """Give a fresh model another one's normalisation of the latents, and its frozen encoder."""
    fresh.latent_mean.copy_(model.latent_mean)
    fresh.latent_std.copy_(model.latent_std)
    fresh.image_encoder = fresh.image_encoder or model.image_encoder
    return fresh


class Scorer:
    """Scores models once: what is written down is read again."""

    def __init__(self, config: Generalisation) -> None:
        self._device = torch_device(config.device)
        self.decoder = load_autoencoder(config.decoder, "decoder", self._device)
        self.sets = read_sets(config, self.decoder)
        self._sampler = SamplerConfig(cfg_strength=config.cfg_strength)
        self._settings = f"{config.sets} {config.root} {config.num_views} {config.cfg_strength}"
        self._path = config.out / SCORES
        config.out.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        self.found = [line for line in map(json.loads, lines) if line["by"] == self._settings]

    def add_file(self, path: Path) -> None:
        """Score a state or model, unless it has been."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if any(line["sha256"] == digest for line in self.found):
            return
        if path.suffix == ".pt":
            model, untrained, step = read_state(path)
            label = f"step {step}"
        else:
            (model, untrained), step = read_model(path), NO_STEP
            label = f"{path.parent.name}/{path.stem}"
        if not any(line["label"] == "untrained" for line in self.found):
            self._add("untrained", -1, "", untrained)
        self._add(label, step, digest, model)

    def _add(self, label: str, step: int, digest: str, model: SceneModel) -> None:
        model = model.to(self._device).eval()
        scores = {}
        for name, views in self.sets.items():
            logits = sample_views(model, self.decoder, views, self._sampler)
            scores[name] = score_grids((grids > 0 for grids in logits), views)
            logging.info(f"{label}, {name}: {scores[name]}")
        line = {"label": label, "step": step, "sha256": digest, "by": self._settings} | {
            "scores": scores
        }
        self.found.append(line)
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def main(config: Generalisation) -> None:
    """Score what is not scored yet, then print a table a set."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(config.threads)
    with denormals_flushed():
        paths = config.models or (train(config),)
        scorer = Scorer(config)
        for path in find_models(paths):
            scorer.add_file(path)
        training = read_part(config.root, "train", config.val_fraction)
        constant = constant_grid(training, scorer.decoder, config.constant_views)
        for name, views in scorer.sets.items():
            rows: list[tuple[str, dict[str, Any]]] = [
                (line["label"], line["scores"][name])
                for line in sorted(scorer.found, key=lambda line: (line["step"], line["label"]))
            ]
            rows.append(("constant", constant_scores(constant, views)))
            decoded = [reconstruct(scorer.decoder, view.sample)[1:] for view in views]
            rows.append(("reconstruction", score_grids(decoded, views)))
            instances = sum(view.sample.num_instances for view in views)
            print(f"\n{name}: {len(views)} views, {instances} instances\n")
            print(table([(label, rounded(scores)) for label, scores in rows]))


def rounded(scores: dict[str, float]) -> dict[str, str]:
    return {name: f"{scores[name]:.3f}" for name in COLUMNS}


if __name__ == "__main__":
    main(tyro.cli(Generalisation))
