"""The commands of ``datagen``. The fields of a command are its flags and their help."""

import json
import logging
import sys
from contextlib import closing
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import tyro

from datagen.arguments import ARGUMENTS, Arguments, RunFlags, arguments_like
from datagen.doctor import examine
from datagen.engine.plan import plan_stage
from datagen.engine.stage import RunOptions, Stage
from datagen.engine.units import require_parts
from datagen.errors import ConfigError
from datagen.executors.job import Executor
from datagen.exports.export import FormatName
from datagen.exports.export import export as export_views
from datagen.report import write_report
from datagen.run import finish, run_stage
from datagen.shards import Folder, open_dataset
from datagen.stages.assets import PrepareAssets
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.pipeline import Pipeline, load_pipeline
from datagen.verify.workspace import verify_path

logger = logging.getLogger(__name__)

MADE_FIRST = {"layouts": "assets", "train": "encode"}
"""Verbs that make a missing input themselves, so that four commands are a complete run."""


class Command(Protocol):
    """One command with its arguments."""

    def execute(self) -> int:
        """Execute the command and return the exit code."""
        ...


@dataclass(frozen=True)
class StageCommand:
    """Runs the stage of a verb. Each verb has its own subclass."""

    verb: ClassVar[str]
    pipeline: ClassVar[Pipeline]
    """The pipeline whose stage gives the defaults."""
    stage: Any
    """Settings of the stage."""
    flags: RunFlags = field(default_factory=RunFlags)

    def chosen(self) -> Stage:
        """Return the stage that the flags describe."""
        if isinstance(self.stage, Arguments):
            return self.stage.stage(getattr(self.pipeline, self.verb))
        assert isinstance(self.stage, Stage), self.stage
        return self.stage

    def execute(self) -> int:
        """Run the stage in its workspace; return 1 if its dataset is incomplete."""
        stage, root = self.chosen(), Folder.at(self.flags.root)
        if self.flags.only:
            require_parts(stage)  # before an input is made that would not be used
        with closing(self.flags.executor()) as executor:
            self._make_first(stage, root, executor)
            return run_and_print(stage, root, executor, self.flags.options)

    def _make_first(self, stage: Stage, root: Folder, executor: Executor) -> None:
        first = MADE_FIRST.get(self.verb)
        if first is None or isinstance(stage, TakeLayouts):
            return
        needed: Stage = getattr(self.pipeline, first)
        if not (root / needed.table.folder).exists("manifest.json"):
            logger.info(
                f"{self.verb}: {root / needed.table.folder} is not there, "
                f"making it first (datagen {first})"
            )
            plain = replace(self.flags.options, overwrite=False, only=())
            needed.run(root, executor, plain)


@dataclass(frozen=True)
class PlanCommand:
    """Estimates rows, bytes and hours of a verb from a few test units."""

    command: StageCommand
    """The verb with its flags."""

    def execute(self) -> int:
        flags = self.command.flags
        measured = plan_stage(
            self.command.chosen(),
            Folder.at(flags.root),
            num_workers=flags.workers,
            settings=flags.worker_settings,
        )
        sys.stdout.write(f"{measured}\n")
        return 0


@dataclass(frozen=True)
class PipelineCommand:
    """Run all stages of a pipeline one after the other, and write the report."""

    pipeline: ClassVar[Pipeline]
    assets: PrepareAssets
    flags: RunFlags = field(default_factory=RunFlags)

    def execute(self) -> int:
        pipeline = replace(self.pipeline, assets=self.assets)
        if isinstance(pipeline.layouts, TakeLayouts):
            layouts = replace(pipeline.layouts, source_path=self.assets.source_path)
            pipeline = replace(pipeline, layouts=layouts)
        root = Folder.at(self.flags.root)
        with closing(self.flags.executor()) as executor:
            for _, stage in pipeline.stages():
                run_and_print(stage, root, executor, self.flags.options)
        sys.stdout.write(f"report: {write_report(root.path)}\n")
        return 0


def run_and_print(stage: Stage, root: Folder, executor: Executor, options: RunOptions) -> int:
    """Run a stage, print its result, and return the exit code.

    Raises:
        ConfigError: ``options.only`` is given and the stage makes no units.
    """
    if options.only:
        made, sealed = require_parts(stage).run_only(root, executor, options)
        lines = [f"{stage.name}: {line}" for line in made]
        lines += [] if sealed is None else finish(stage, sealed, root)
        exit_code = 0
    else:
        dataset, lines = run_stage(stage, root, executor, options)
        exit_code = 0 if stage.is_complete(dataset) else 1
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return exit_code


@dataclass(frozen=True)
class ReportCommand:
    """Write a workspace's report.html."""

    root: Path = Path("dataset")
    """The workspace."""

    def execute(self) -> int:
        if not self.root.is_dir():
            raise ConfigError(
                f"--root {self.root}: no such folder. Expected a workspace; "
                "`datagen run demo` makes one."
            )
        sys.stdout.write(f"report: {write_report(self.root)}\n")
        return 0


@dataclass(frozen=True)
class ShowCommand:
    """Print a dataset's manifest: identity, counts, failures and provenance."""

    folder: tyro.conf.Positional[str]
    """The folder of a dataset, for example dataset/layouts."""

    def execute(self) -> int:
        manifest = dict(open_dataset(self.folder).manifest)
        shards = manifest.pop("shards")
        manifest["shards"] = f"{len(shards)} files"
        sys.stdout.write(json.dumps(manifest, indent=2) + "\n")
        return 0


@dataclass(frozen=True)
class VerifyCommand:
    """Check datasets against their manifests: bytes, counts, tensors and references between rows.

    Every problem is a line with its file and row. The exit code is 1 if there is any.
    """

    folder: tyro.conf.Positional[str | None] = None
    """A workspace, or one of its datasets. By default --root."""
    root: str = "dataset"
    """The workspace."""
    deep: bool = False
    """Also decode every image and geometry file."""
    threads: int = 4
    """Number of shards that are hashed in parallel."""

    def execute(self) -> int:
        folder = Folder.at(self.folder or self.root)
        result = verify_path(folder, deep=self.deep, threads=self.threads)
        sys.stdout.write(result.text())
        return 1 if result.findings else 0


@dataclass(frozen=True)
class DoctorCommand:
    """Check this machine for what datagen needs, and print how to install what is missing.

    The exit code is 1 if something required is missing, or something installed does not work.
    """

    def execute(self) -> int:
        diagnoses = examine()
        sys.stdout.writelines(f"{diagnosis.line()}\n" for diagnosis in diagnoses)
        return 0 if all(diagnosis.healthy for diagnosis in diagnoses) else 1


@dataclass(frozen=True)
class ExportCommand:
    """Copy the kept views into another format. An interrupted export is resumed."""

    format: tyro.conf.Positional[FormatName]
    """The format. webdataset: tar files. trellis: renders/, ss_latents/ and metadata.csv. coco:
    images/ and annotations.json with RLE masks."""
    out: str
    """Output folder or URL: a new one, or that of an interrupted export."""
    root: str = "dataset"
    """The workspace."""
    instances: bool = False
    """trellis: also export every instance as an entry of its own."""
    workers: int = 1
    """Maximum number of workers. Above 1, they run on Ray."""
    ray_address: str | None = None
    """Address of a running Ray cluster. By default Ray is started on this machine if needed."""

    def execute(self) -> int:
        flags = RunFlags(root=self.root, workers=self.workers, ray_address=self.ray_address)
        root, out = Folder.at(self.root), Folder.at(self.out)
        with closing(flags.executor()) as executor:
            written = export_views(self.format, root, out, executor, instances=self.instances)
        sys.stdout.write(f"export {self.format}: {written} in {self.out}\n")
        return 0


OTHERS: dict[str, type[Any]] = {
    "report": ReportCommand,
    "show": ShowCommand,
    "export": ExportCommand,
    "doctor": DoctorCommand,
    "verify": VerifyCommand,
}
"""All other commands, by name."""


def stage_command(verb: str, pipeline: Pipeline) -> type[StageCommand]:
    """Return the command of a verb. A pipeline's stage gives the defaults."""
    default = getattr(pipeline, verb)
    if verb in ARGUMENTS:
        default = arguments_like(ARGUMENTS[verb], default)
    return make_dataclass(
        f"{verb.title()}Command",
        [("stage", type(default), field(default=default))],
        bases=(StageCommand,),
        namespace={"verb": verb, "pipeline": pipeline, "__doc__": type(default).__doc__},
        frozen=True,
    )


def pipeline_command(name: str) -> type[PipelineCommand]:
    """Return the command that runs a pipeline. The pipeline gives the defaults."""
    pipeline = load_pipeline(name)
    return make_dataclass(
        f"{name.title()}Command",
        [("assets", PrepareAssets, field(default=pipeline.assets))],
        bases=(PipelineCommand,),
        namespace={"pipeline": pipeline, "__doc__": PipelineCommand.__doc__},
        frozen=True,
    )
