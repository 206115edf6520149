"""The training loop of the flow model: resumable, and the same after a resume."""

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datagen.errors import StageError
from datagen.models import save_model
from datagen.models.devices import denormals_flushed
from datagen.models.dinov2 import DinoV2
from datagen.training.checkpoints import Checkpoints
from datagen.training.data.loader import Sample, SceneLoader
from datagen.training.distributed import Ranks
from datagen.training.log import TrainingLog
from datagen.training.objectives.batches import Batch
from datagen.training.objectives.objective import Network, Objective, Scorer
from datagen.training.state import BAD_STEPS, TrainState

logger = logging.getLogger(__name__)

_MODEL = "model"
BEST = "best"


def train_flow(
    loader: SceneLoader[Any],
    val_samples: Sequence[Sample],
    objective: Objective[Any, Any],
    folder: Path,
    *,
    device: str = "cpu",
    init: str | None = None,
    decoder: nn.Module | None = None,
    image_encoder: DinoV2 | None = None,
) -> Network:
    """Train, or go on from the folder's last state, and write the averaged model.

    Step s takes the stream's samples [s·B, (s + 1)·B), B = ``batch_size``, shared out over the
    processes of ``torch.distributed`` if there are several. Every draw belongs to its step and its
    place in it, so that a run that was killed gives the losses (on one CPU and number of threads:
    bit for bit) of one that was not, and several processes give those of one up to rounding.

    Args:
        loader: this process's share of what is trained on, at its start.
        val_samples: held-out views; may be empty.
        objective: what is trained, with all settings: see ``objective_of``.
        folder: gets ``model.json`` and ``model.safetensors`` (averaged weights, last of all),
            ``best.*`` (those of the lowest validation loss), ``log.jsonl`` (a line a step),
            ``tensorboard/``, ``previews/`` and, while it trains, ``checkpoints/``.
        device: where the network lives.
        init: weights to start from: see ``initial_weights``.
        image_encoder: the loaded one, if the settings name a frozen one.
        decoder: of the latents, for sampled voxel IoU and pictures. None: no scene is sampled.

    Returns:
        The averaged model, in evaluation mode.

    Raises:
        StageError: the loss is not finite three steps in a row, or the GPU's memory is too small.
        DatasetError: the folder holds the state of a run with other settings or data, a sample is
            corrupt, or ``init`` is of another architecture.
    """
    args = objective.network_args(loader.sources)
    state = TrainState(objective, args, device, Ranks.current(), init, image_encoder)
    run = _Run(loader, val_samples, state, folder, objective.scorer(decoder))
    with run.logging(), denormals_flushed():
        while run.state.step < objective.config.max_steps:
            run.step()
    model = run.state.averaged_model()
    if run.ranks.is_first:
        save_model(model, folder / _MODEL, args)
    run.ranks.wait()
    return model.eval()


class _Run:
    """One process's part in a training, from where it goes on to its end."""

    def __init__(
        self,
        loader: SceneLoader[Any],
        val_samples: Sequence[Sample],
        state: TrainState,
        folder: Path,
        scorer: Scorer[Any, Any] | None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = state.config
        self._loader, self._config, self._folder = loader, config, folder
        self.state, self.ranks, self._objective = state, state.ranks, state.objective
        self._places = self.ranks.places(config.batch_size)
        self._val_samples = val_samples[: config.val_views]
        self._val_batch = self._batch(self._val_samples, "val") if self._val_samples else None
        self._scorer = scorer
        self._checkpoints = Checkpoints(folder, config.keep_last)
        self._resume()
        self._log: TrainingLog | None = None

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Write the log, in the first process."""
        if not self.ranks.is_first:
            yield
            return
        config = self._config
        log = TrainingLog(self._folder, self.state.step, config.max_steps, config.batch_size)
        with contextlib.closing(log) as self._log:
            yield

    def step(self) -> None:
        """Take one step, and do what is due after it."""
        with self._log.waiting() if self._log else contextlib.nullcontext():
            samples = list(itertools.islice(self._loader, len(self._places)))
            batch = self._objective.batch(samples, "train", self.state.step, self._places)
        result = self.state.take_step(batch)
        if self._log:
            self._log.step(self.state.step, result)
        if not result.is_finite:
            self._stop_or_go_on(batch)
        if self._is_due(self._config.validate_every):
            self._validate()
        if self._config.sample_every and self._is_due(self._config.sample_every):
            self._sample()
        if self._is_due(self._config.checkpoint_every):
            self._write_state()

    def _resume(self) -> None:
        found = self._checkpoints.newest()
        if found is not None:
            path, state = found
            self.state.load_state_dict(state, path)
            self._loader.load_state_dict(state["loader"])
            logger.info(f"train: going on from step {self.state.step} of {self._config.max_steps}")
        self.ranks.check_same(self.state.step, self.state.device)
        if self._config.normalize_latents and not self.state.has_statistics:
            self.state.set_statistics(*self._objective.statistics(self._loader.sources))

    def _validate(self) -> None:
        if self._val_batch is None:
            return
        loss = self.state.validation_loss(self._val_batch)
        if self._log:
            self._log.record(self.state.step, {"val_loss": loss})
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss = loss
            model = self.state.averaged_model()
            if self.ranks.is_first:
                save_model(model, self._folder / BEST, self.state.args)

    def _sample(self) -> None:
        """Sample held-out views in the first process; the others wait at the next step."""
        chosen = self._val_samples[: self._config.sampled_views]
        if not chosen or self._scorer is None:
            return
        model = self.state.averaged_model().to(self.state.device)
        if not self._log:
            return
        with self.state.autocast():
            scores = self._scorer(model, chosen, self._folder, self.state.step)
        self._log.record(self.state.step, scores.values)
        for path in scores.images:
            self._log.picture(self.state.step, path)

    def _write_state(self) -> None:
        if self._log:
            self._log.flush()
        state = self.state.state_dict() | {"loader": self._loader.state_dict()}
        if self.ranks.is_first:
            self._checkpoints.write(self.state.step, state)

    def _stop_or_go_on(self, batch: Batch) -> None:
        """Say that a step was skipped.

        Raises:
            StageError: it was the third in a row.
        """
        step = self.state.step
        if self.state.bad_in_a_row < BAD_STEPS:
            logger.warning(
                f"train: step {step} is skipped, its loss or gradient is not finite "
                f"({self.state.skipped} so far); {BAD_STEPS} in a row end the run"
            )
            return
        path = self._folder / f"bad-batch-{self.ranks.rank}.pt"
        torch.save({"step": step, **batch.plain()}, path)
        raise StageError(
            f"train: steps {step - BAD_STEPS + 1} to {step} have no finite loss or gradient. "
            f"Expected finite numbers; the last batch is in {path}. Look for broken latents in it, "
            f"or lower --lr (now {self._config.lr:g}) and start again with --overwrite."
        )

    def _batch(self, samples: Sequence[Sample], split: str) -> Batch:
        return self._objective.batch(samples, split, 0, range(len(samples)))

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self._config.max_steps
