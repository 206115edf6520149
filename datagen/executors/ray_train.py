"""Trains one model in several processes, which Ray Train starts and watches."""

import logging
import tempfile
from collections.abc import Mapping
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from datagen.errors import DatagenError, StageError, first_line
from datagen.executors.followed_log import followed
from datagen.executors.job import DeviceName, Training
from datagen.executors.local import available_cores
from datagen.executors.ray_session import RaySession

logger = logging.getLogger(__name__)

DEATHS = 3
"""A training ends after its processes have died this often without an error of datagen."""


def run_together(
    session: RaySession, num_workers: int, device: DeviceName, training: Training
) -> None:
    """Run a training in several processes at once, among which ``torch.distributed`` is up.

    When a process dies, all start again, and the training resumes from the state that it wrote.

    Args:
        session: the connection to Ray.
        num_workers: the most processes.
        device: where they train.
        training: called in every process with its device and its number of threads.

    Raises:
        DatagenError: as the training raised it.
        StageError: the processes died ``DEATHS`` times.
    """
    session.start()
    use_gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
    if device == "cuda" and not use_gpu:
        raise StageError(
            "--device cuda: no machine of the Ray cluster has a GPU. Expected one; use "
            "--device auto or cpu, or start a node with `ray start --num-gpus`."
        )
    num_processes = processes_that_fit(
        num_workers, ray.cluster_resources(), training.divides, use_gpu=use_gpu
    )
    logger.info(f"train: Ray trains; every process's lines are kept in {training.log.parent}/")
    with followed(training.log):
        for _ in range(DEATHS):
            session.start()
            failure = _attempt(training, num_processes, use_gpu)
            if failure is None:
                return
            logger.warning(f"train: a process died ({failure}); all resume from the last state")
            session.close()  # else what is left of the dead would keep the cores the new need
    raise StageError(
        f"train: its processes died {DEATHS} times (last: {failure}). The last state is safe; look "
        "for what killed them (often memory), and run the same command again."
    )


def processes_that_fit(
    wanted: int, resources: Mapping[str, float], divides: int, *, use_gpu: bool
) -> int:
    """Return how many processes run: at most what is wanted and there, and a divisor."""
    fit = min(wanted, int(resources.get("GPU" if use_gpu else "CPU", 0)))
    if fit < 1:
        raise StageError(f"Ray has no room for a process of 1 core (it has {resources}). Free one.")
    num = max(n for n in range(1, fit + 1) if divides % n == 0)
    if num < wanted:
        logger.info(
            f"--workers {wanted}: {num} train together; {fit} fit here, and their number must "
            f"divide --batch-size {divides}"
        )
    return num


def _attempt(training: Training, num_workers: int, use_gpu: bool) -> str | None:
    """Run the processes once; return what killed one, or None when all have finished."""
    with tempfile.TemporaryDirectory() as notes:  # Ray's own; the training keeps its state itself
        trainer = TorchTrainer(
            _run_process,
            train_loop_config={"training": training, "num_workers": num_workers},
            torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
            run_config=RunConfig(storage_path=notes, failure_config=FailureConfig(max_failures=0)),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            return _cause(error)
        except ControllerError as error:
            return first_line(error.controller_failure)
    return None


def _run_process(arguments: dict[str, Any]) -> None:
    training: Training = arguments["training"]
    training(str(get_device()), max(1, available_cores() // arguments["num_workers"]))


def _cause(error: WorkerGroupError) -> str:
    """Return what killed a process.

    Raises:
        DatagenError: it ended with an error of ours, which starting again would not mend.
    """
    failures = [_unwrapped(failure) for failure in error.worker_failures.values()]
    for failure in failures:
        if isinstance(failure, DatagenError):
            raise failure from None
    return first_line(failures[0]) if failures else first_line(error)


def _unwrapped(failure: Exception) -> Exception:
    while isinstance(cause := getattr(failure, "cause", None) or failure.__cause__, Exception):
        failure = cause
    return failure
