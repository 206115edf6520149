"""The training loop of a flow model. A resumed run gives the same result as an unbroken one."""

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
    """Train a model, or resume from the folder's last state, and write the averaged model.

    Step s takes the samples [s·B, (s + 1)·B) of the stream, where B is ``batch_size``. The
    processes of ``torch.distributed`` share them. Each draw depends on the seed, the step and the
    sample's index in the step. So a resumed run gives the losses of an unbroken one, bit for bit
    on one CPU with the same number of threads; several processes give the losses of one process
    up to rounding.

    Args:
        loader: this process's share of the training samples, at its start.
        val_samples: held-out views; may be empty.
        objective: the model, its data, its losses and all settings: see ``objective_of``.
        folder: gets ``model.json`` and ``model.safetensors`` (averaged weights, written last),
            ``best.*`` (the model with the lowest validation loss), ``log.jsonl`` (one line per
            step), ``tensorboard/``, ``previews/`` and, until the end, ``checkpoints/``.
        device: torch device of the network.
        init: weights to start from: see ``initial_weights``.
        decoder: decodes latents, for voxel IoU and images of sampled scenes. None: no scene is
            sampled.
        image_encoder: the loaded frozen encoder, if ``config.image_encoder`` names one.

    Returns:
        The averaged model, in evaluation mode.

    Raises:
        StageError: the loss is not finite in three steps in a row, or the GPU's memory is too
            small.
        DatasetError: the folder holds a state of a run with other settings or data; a sample is
            corrupt; or ``init`` is of another architecture.
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
    """One process's part in a training, from the state it resumes from to the last step."""

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
        """Keep the log open while the block runs, in the first process."""
        if not self.ranks.is_first:
            yield
            return
        config = self._config
        log = TrainingLog(self._folder, self.state.step, config.max_steps, config.batch_size)
        with contextlib.closing(log) as self._log:
            yield

    def step(self) -> None:
        """Take one step; then validate, sample and save the state if they are due."""
        with self._log.waiting() if self._log else contextlib.nullcontext():
            samples = list(itertools.islice(self._loader, len(self._places)))
            batch = self._objective.batch(samples, "train", self.state.step, self._places)
        result = self.state.take_step(batch)
        if self._log:
            self._log.step(self.state.step, result)
        if not result.is_finite:
            self._stop_or_continue(batch)
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
            logger.info(f"train: resuming from step {self.state.step} of {self._config.max_steps}")
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
            self._log.image(self.state.step, path)

    def _write_state(self) -> None:
        if self._log:
            self._log.flush()
        state = self.state.state_dict() | {"loader": self._loader.state_dict()}
        if self.ranks.is_first:
            self._checkpoints.write(self.state.step, state)

    def _stop_or_continue(self, batch: Batch) -> None:
        """Log that a step was skipped.

        Raises:
            StageError: it was the third skipped step in a row.
        """
        step = self.state.step
        if self.state.bad_in_a_row < BAD_STEPS:
            logger.warning(
                f"train: step {step} is skipped: its loss or gradient is not finite "
                f"({self.state.skipped} skipped so far; {BAD_STEPS} in a row end the run)"
            )
            return
        path = self._folder / f"bad-batch-{self.ranks.rank}.pt"
        torch.save({"step": step, **batch.plain()}, path)
        raise StageError(
            f"train: steps {step - BAD_STEPS + 1} to {step} have no finite loss or gradient. "
            f"Expected finite numbers; look for broken latents in the last batch, {path}, or lower "
            f"--lr (now {self._config.lr:g}) and start again with --overwrite."
        )

    def _batch(self, samples: Sequence[Sample], split: str) -> Batch:
        return self._objective.batch(samples, split, 0, range(len(samples)))

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self._config.max_steps
