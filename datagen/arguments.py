"""The flags of every verb: the fields of its stage, and how to run it.

Three verbs have two stages each. Their argument class holds the fields of both stages, so that
``--help`` shows all flags. One of the flags chooses the stage.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from datagen.blender.executable import named_blender
from datagen.engine.stage import RunOptions, Stage
from datagen.errors import ConfigError
from datagen.evaluation.compare import Comparison
from datagen.executors.job import Executor, WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.stages.evaluate import EvaluateScenes
from datagen.stages.evaluate_files import EvaluateFiles
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.infer import InferScenes
from datagen.stages.infer_images import InferImages
from datagen.stages.layouts import SampleLayouts

AnyStage = TypeVar("AnyStage", bound=Stage)


@dataclass(frozen=True)
class RunFlags(RunOptions):
    """How to run. These flags do not change the data."""

    root: str = "dataset"
    """The workspace: a folder, or a URL of remote storage that pyarrow or fsspec supports."""
    workers: int = 1
    """Maximum number of workers. Above 1, they run on Ray."""
    ray_address: str | None = None
    """Address of a running Ray cluster. By default Ray is started on this machine if needed."""
    slots_per_gpu: int = 1
    """Number of Ray workers that share a GPU."""
    settings: WorkerSettings = field(default_factory=WorkerSettings)
    """Settings of every worker."""
    pipeline: str | None = None
    """Use the settings of this pipeline as defaults."""
    verbose: bool = False
    """Show more log messages."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers must be at least 1, got {self.workers}.")
        if self.slots_per_gpu < 1:
            raise ConfigError(f"--slots-per-gpu must be at least 1, got {self.slots_per_gpu}.")

    @property
    def options(self) -> RunOptions:
        """The options that a stage takes."""
        return RunOptions(**{f.name: getattr(self, f.name) for f in fields(RunOptions)})

    @property
    def worker_settings(self) -> WorkerSettings:
        """The settings of every worker, with the absolute path of Blender."""
        return replace(self.settings, blender=named_blender(self.settings.blender))

    def executor(self) -> Executor:
        """Return the executor: this process for one worker, otherwise Ray."""
        if self.workers == 1 and self.ray_address is None:
            return LocalExecutor(self.worker_settings)
        from datagen.executors.ray import RayExecutor  # takes a second to import

        return RayExecutor(
            self.workers, self.worker_settings, self.ray_address, slots_per_gpu=self.slots_per_gpu
        )


@dataclass(frozen=True, kw_only=True)
class LayoutArguments(TakeLayouts, SampleLayouts):
    """Compose random scenes without collisions; with --source, take the rooms of a dataset."""

    DEFAULT_IF_NONE: ClassVar[frozenset[str]] = frozenset({"num_layouts", "split"})
    """None stands for the chosen stage's own default."""

    source: Literal["front3d"] | None = None  # type: ignore[assignment]
    """Take rooms from this source instead of composing random scenes. front3d: 3D-FRONT as
    processed by MIDI. The workspace's assets must come from the same source."""
    num_layouts: Annotated[int | None, tyro.conf.arg(aliases=["--n"])] = None  # type: ignore[assignment]
    """Number of scenes. By default that of the pipeline, or 25,000. With --source: number of rooms,
    the first of the split; by default all."""
    split: Literal["all", "train", "val", "test"] | None = None  # type: ignore[assignment]
    """Assets to use: all, or those of one split. train, val and test hold 80, 10 and 10 % of the
    assets, by a hash of the asset_id. With --source: the rooms of MIDI's split, where the last 1000
    rooms are test and all others train. By default that of the pipeline, or all."""

    def __post_init__(self) -> None:
        """Values are checked where the chosen stage is built."""

    def stage(self, base: Stage) -> Stage:
        """Return the chosen stage; what no flag gives comes from ``base``, the pipeline's."""
        if self.source is None:
            return _chosen(SampleLayouts, (TakeLayouts,), self, base, "--source front3d")
        return _chosen(TakeLayouts, (SampleLayouts,), self, base, "random scenes")


@dataclass(frozen=True, kw_only=True)
class InferArguments(InferImages, InferScenes):
    """Sample scenes from rendered views; with --image and --masks, from image files."""

    DEFAULT_IF_NONE: ClassVar[frozenset[str]] = frozenset()

    image: Path | None = None  # type: ignore[assignment]
    """Sample from this image, or from every image of this folder, instead of rendered views."""

    def __post_init__(self) -> None:
        """Values are checked where the chosen stage is built."""

    def stage(self, base: Stage) -> Stage:
        """Return the chosen stage; what no flag gives comes from ``base``, the pipeline's."""
        if self.image is None:
            return _chosen(InferScenes, (InferImages,), self, base, "--image")
        return _chosen(InferImages, (InferScenes,), self, base, "rendered views")


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(Comparison, EvaluateFiles, EvaluateScenes):
    """Score sampled scenes against the truth; with --pred and --gt, the files of any methods."""

    DEFAULT_IF_NONE: ClassVar[frozenset[str]] = frozenset({"collision_faces", "scenes_per_shard"})
    """None stands for the chosen stage's own default."""

    comparison: Annotated[Comparison, tyro.conf.Suppress] = field(default_factory=Comparison)
    collision_faces: int | None = None  # type: ignore[assignment]
    """Collision rates are computed for predicted scenes of at most this many faces. 0: for none. By
    default 200,000; with --pred 500,000."""
    scenes_per_shard: int | None = None  # type: ignore[assignment]
    """Scenes per shard (one Parquet file). By default 8; with --pred 64."""

    def __post_init__(self) -> None:
        """Values are checked where the chosen stage is built."""

    def stage(self, base: Stage) -> Stage:
        """Return the chosen stage; what no flag gives comes from ``base``, the pipeline's."""
        if not self.pred:
            return _chosen(EvaluateScenes, (EvaluateFiles, Comparison), self, base, "--pred")
        others = (EvaluateScenes,)
        chosen = _chosen(EvaluateFiles, others, self, base, "sampled scenes", Comparison)
        given = {f.name: getattr(self, f.name) for f in fields(Comparison)}
        if given["collision_faces"] is None:
            del given["collision_faces"]
        return replace(chosen, comparison=Comparison(**given))


Arguments = LayoutArguments | InferArguments | EvaluateArguments

ARGUMENTS: dict[str, type[Arguments]] = {
    "layouts": LayoutArguments,
    "infer": InferArguments,
    "evaluate": EvaluateArguments,
}
"""The verbs with two stages."""


def arguments_like(kind: type[Arguments], base: Stage) -> Arguments:
    """Return the arguments without any flag: the fields of ``base``, the pipeline's stage."""
    names = {f.name for f in fields(kind)} - kind.DEFAULT_IF_NONE
    given: Any = {f.name: getattr(base, f.name) for f in fields(base) if f.name in names}
    return kind(**given)


def _chosen(
    kind: type[AnyStage],
    others: tuple[type[Any], ...],
    arguments: Arguments,
    base: Stage,
    what: str,
    *parts: type[Any],
) -> AnyStage:
    """Return a stage of the kind from the arguments.

    Args:
        kind: the stage that was chosen.
        others: classes whose flags do not belong to it.
        arguments: all flags of the verb.
        base: the pipeline's stage.
        what: what the flags of ``others`` belong to, for the error.
        parts: settings whose flags belong to the kind too.

    Raises:
        ConfigError: a flag was given that belongs to another kind.
    """
    plain = arguments_like(type(arguments), base)
    own = {f.name for f in fields(kind)}
    known = own | {f.name for part in parts for f in fields(part)}
    for name in (f.name for other in others for f in fields(other) if f.name not in known):
        if getattr(arguments, name) != getattr(plain, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} goes with {what}, which was not given. Expected both "
                f"or neither; see `datagen {kind.name} --help`."
            )
    values = {name: getattr(arguments, name) for name in own}
    for name in own & arguments.DEFAULT_IF_NONE:
        if values[name] is None and isinstance(base, kind):
            values[name] = getattr(base, name)
        elif values[name] is None:
            del values[name]
    return kind(**values)
