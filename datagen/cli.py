"""The command line: one verb a stage, thin. Flags are the stage's fields and the executor's."""

import dataclasses
import inspect
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from datagen.blender.executable import named_blender
from datagen.doctor import examine
from datagen.engine.plan import plan_stage
from datagen.engine.stage import RunOptions, Stage, funnel
from datagen.errors import ConfigError, DatagenError
from datagen.executors.job import Executor
from datagen.executors.local import LocalExecutor
from datagen.exports.attribution import write_attribution
from datagen.exports.card import write_card
from datagen.exports.export import Kind, export
from datagen.log import configure_logging
from datagen.report import write_comparison_report, write_report
from datagen.shards import Folder, open_dataset
from datagen.stages.evaluate_files import EvaluateFiles
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.infer_images import InferImages
from datagen.stages.pipeline import Pipeline, load_pipeline
from datagen.stages.sampling import SamplingStage
from datagen.training import ISCENE_L
from datagen.verify.workspace import verify_path

logger = logging.getLogger("datagen.cli")  # also when run as a script

MADE_FIRST = {"layouts": "assets", "train": "encode"}
"""The two verbs that make a missing input themselves, so that four commands are a run."""

STAGE_VERBS = tuple(field.name for field in dataclasses.fields(Pipeline))


@dataclass(frozen=True)
class RunFlags(RunOptions):
    """How to run. None of it changes the data."""

    root: str = "dataset"
    """The workspace: a folder, or a URL that pyarrow or fsspec knows."""
    workers: int = 1
    """The most that run at once; above 1, Ray runs them."""
    ray_address: str | None = None
    """Address of a Ray cluster."""
    device: Literal["auto", "cpu", "cuda", "optix"] = "auto"
    """Where Cycles and networks run; auto: on a GPU if one is visible."""
    slots_per_gpu: int = 1
    """Ray: how many workers share a GPU."""
    recycle_scenes: int = 500
    """Start a fresh Blender after so many scenes; 0: never."""
    recycle_growth_mb: float = 2048.0
    """Start a fresh Blender when its memory has grown by so much; 0: never."""
    blender: str | None = None
    """A Blender executable, or a Python with bpy, at the same place on every machine; by default
    what DATAGEN_BLENDER names, else this Python's bpy."""
    pipeline: str | None = None
    """Take the stage's defaults from this pipeline."""
    verbose: bool = False
    """Log more."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers must be at least 1, got {self.workers}.")
        if self.slots_per_gpu < 1:
            raise ConfigError(f"--slots-per-gpu must be at least 1, got {self.slots_per_gpu}.")
        if min(self.recycle_scenes, self.recycle_growth_mb) < 0:
            raise ConfigError("--recycle-scenes and --recycle-growth-mb must not be negative.")

    def executor(self) -> Executor:
        if self.workers == 1 and self.ray_address is None:
            return LocalExecutor(
                self.device,
                recycle_scenes=self.recycle_scenes,
                recycle_growth_mb=self.recycle_growth_mb,
                blender=named_blender(self.blender),
            )
        from datagen.executors.ray import RayExecutor  # takes a second to import

        return RayExecutor(
            self.workers,
            self.ray_address,
            self.device,
            slots_per_gpu=self.slots_per_gpu,
            recycle_scenes=self.recycle_scenes,
            recycle_growth_mb=self.recycle_growth_mb,
            blender=named_blender(self.blender),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 1 for bad data, 2 for an error the user can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    configure_logging("--verbose" in arguments or "--only" in arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's way to say Ctrl-C
    try:
        return dispatch(arguments)
    except DatagenError as error:
        sys.stderr.write(f"datagen: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("datagen: stopped. What is finished is safe; the same command goes on.\n")
        return 130
    except BrokenPipeError:  # `datagen … | head` has read enough; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def dispatch(arguments: list[str]) -> int:
    others: dict[str, Callable[[list[str]], int | None]] = {
        "run": run_pipeline,
        "plan": plan,
        "show": show,
        "report": report,
        "verify": verify,
        "doctor": doctor,
        "export": export_views,
    }
    verbs = [*STAGE_VERBS, *others]
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    if verb in STAGE_VERBS:
        return run_verb(verb, rest)
    if verb in others:
        return others[verb](rest) or 0
    raise ConfigError(f"unknown command {verb!r}. Expected one of {', '.join(verbs)}.")


def run_verb(verb: str, arguments: list[str]) -> int:
    """Run one stage in a workspace; return 1 if a comparison lacks scenes."""
    pipeline = load_pipeline(name) if (name := _flag(arguments, "--pipeline")) else Pipeline()
    stage, flags = parse_stage(verb, default_stage(verb, pipeline, arguments), arguments)
    root = Folder.at(flags.root)
    with closing(flags.executor()) as executor:
        first = None if isinstance(stage, TakeLayouts) else MADE_FIRST.get(verb)
        if first is not None:
            needed: Stage = getattr(pipeline, first)
            if not (root / needed.folder).exists("manifest.json"):
                logger.info(
                    f"{verb}: {root / needed.folder} is not there, "
                    f"making it first (datagen {first})"
                )
                plain = dataclasses.replace(_options(flags), overwrite=False, only=())
                needed.run(root, executor, plain)
        return make(verb, stage, root, executor, _options(flags))


def default_stage(verb: str, pipeline: Pipeline, arguments: list[str]) -> Stage:
    """Return the stage whose fields the flags then change: three flags choose another one."""
    stage: Stage = getattr(pipeline, verb)
    if verb == "train" and _flag(arguments, "--model") == "iscene-L":
        return dataclasses.replace(pipeline.train, config=ISCENE_L)
    if verb == "layouts" and _flag(arguments, "--source") and not isinstance(stage, TakeLayouts):
        return TakeLayouts()
    if verb == "infer" and (image := _flag(arguments, "--image")):
        masks = _flag(arguments, "--masks")
        shared = {f.name: getattr(stage, f.name) for f in dataclasses.fields(SamplingStage)}
        return InferImages(image=Path(image), masks=Path(masks) if masks else None, **shared)
    if verb == "evaluate" and _flag(arguments, "--pred"):
        return EvaluateFiles()
    return stage


def make(verb: str, stage: Stage, root: Folder, executor: Executor, options: RunOptions) -> int:
    """Run a stage and say what came of it; return 1 if a comparison lacks scenes."""
    if options.only:
        for line in stage.run_only(root, executor, options):
            sys.stdout.write(f"{verb}: {line}\n")
        return 0
    dataset = stage.run(root, executor, options)
    if verb == "layouts":
        write_attribution(root)
    write_card(root)
    sys.stdout.write(f"{verb}: {funnel(dataset)} in {dataset.folder}\n")
    if isinstance(stage, EvaluateFiles):
        sys.stdout.write(dataset.folder.read_bytes("summary.md").decode())
        sys.stdout.write(f"report: {write_comparison_report(stage, dataset)}\n")
        return 0 if stage.complete(dataset) else 1
    return 0


def parse_stage(verb: str, default: Stage, arguments: list[str]) -> tuple[Any, RunFlags]:
    """Return the stage and the run's flags that the arguments give."""
    both = dataclasses.make_dataclass(
        "Arguments",
        [
            ("stage", type(default), dataclasses.field(default=default)),
            ("run", RunFlags, dataclasses.field(default=RunFlags())),
        ],
        frozen=True,
    )
    summary = inspect.cleandoc(type(default).__doc__ or "").split("\n\n")[0]
    parsed: Any = tyro.cli(
        both,
        prog=f"datagen {verb}",
        description=summary,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return parsed.stage, parsed.run


def run_pipeline(arguments: list[str]) -> None:
    """Run a pipeline whole: ``datagen run PIPELINE [flags of assets] [flags of the run]``."""
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(
            "run: no pipeline given. Expected `datagen run PIPELINE`; try `datagen run demo`."
        )
    pipeline = load_pipeline(arguments[0])
    assets, flags = parse_stage(f"run {arguments[0]}", pipeline.assets, arguments[1:])
    pipeline = dataclasses.replace(pipeline, assets=assets)
    if isinstance(pipeline.layouts, TakeLayouts):
        layouts = dataclasses.replace(pipeline.layouts, source_path=assets.source_path)
        pipeline = dataclasses.replace(pipeline, layouts=layouts)
    root = Folder.at(flags.root)
    with closing(flags.executor()) as executor:
        for verb, stage in pipeline.stages():
            make(verb, stage, root, executor, _options(flags))
    sys.stdout.write(f"report: {write_report(root.path)}\n")


def plan(arguments: list[str]) -> None:
    """Say what a verb would make: ``datagen plan VERB [the verb's flags]``."""
    verb = arguments[0] if arguments else ""
    if verb not in STAGE_VERBS:
        raise ConfigError(
            f"plan: {verb or 'no verb'} given. Expected `datagen plan VERB` with the verb's flags, "
            f"VERB one of {', '.join(STAGE_VERBS)}."
        )
    pipeline = load_pipeline(name) if (name := _flag(arguments, "--pipeline")) else Pipeline()
    stage, flags = parse_stage(verb, default_stage(verb, pipeline, arguments[1:]), arguments[1:])
    measured = plan_stage(
        stage,
        Folder.at(flags.root),
        num_workers=flags.workers,
        device=flags.device,
        blender=named_blender(flags.blender),
    )
    sys.stdout.write(f"{measured}\n")


def report(arguments: list[str]) -> None:
    """Write ``report.html`` of a workspace."""

    def command(root: Path = Path("dataset")) -> None:
        """Write the workspace's report.html.

        Args:
            root: the workspace.
        """
        if not root.is_dir():
            raise ConfigError(
                f"--root {root} is not a folder. Expected a workspace; "
                "`datagen run demo` makes one."
            )
        sys.stdout.write(f"report: {write_report(root)}\n")

    tyro.cli(command, prog="datagen report", args=arguments)


def show(arguments: list[str]) -> None:
    """Print what a dataset's manifest says."""

    def command(folder: tyro.conf.Positional[str]) -> None:
        """Print a dataset's manifest: identity, counts, failures, provenance.

        Args:
            folder: a dataset, for example dataset/layouts.
        """
        manifest = dict(open_dataset(folder).manifest)
        shards = manifest.pop("shards")
        manifest["shards"] = f"{len(shards)} files"
        sys.stdout.write(json.dumps(manifest, indent=2) + "\n")

    tyro.cli(command, prog="datagen show", args=arguments)


def verify(arguments: list[str]) -> int:
    """Check a workspace's data; return 1 if something is wrong with it."""

    def command(
        folder: tyro.conf.Positional[str | None] = None,
        /,
        root: str = "dataset",
        deep: bool = False,
        threads: int = 4,
    ) -> int:
        """Check data against manifests: bytes, counts, tensors, and what rows refer to.

        Exit code 1: something is wrong; every problem is a line naming file and row.

        Args:
            folder: a workspace, or one dataset in it, instead of --root.
            root: the workspace.
            deep: also decode every image and geometry file.
            threads: shards that are hashed at once.
        """
        result = verify_path(Folder.at(folder or root), deep=deep, threads=threads)
        sys.stdout.write(result.text())
        return 1 if result.findings else 0

    return tyro.cli(command, prog="datagen verify", args=arguments)


def doctor(arguments: list[str]) -> int:
    """Say what works on this machine; return 1 if something does not."""

    def command() -> int:
        """Check what datagen needs here, and print the command that mends what is missing.

        Exit code 1: something required is missing, or something installed does not work.
        """
        diagnoses = examine()
        sys.stdout.writelines(f"{diagnosis.line()}\n" for diagnosis in diagnoses)
        return 0 if all(diagnosis.healthy for diagnosis in diagnoses) else 1

    return tyro.cli(command, prog="datagen doctor", args=arguments)


def export_views(arguments: list[str]) -> None:
    """Copy a workspace's views into another tool's layout."""

    def command(
        kind: tyro.conf.Positional[Kind],
        out: str,
        root: str = "dataset",
        instances: bool = False,
        workers: int = 1,
        ray_address: str | None = None,
    ) -> None:
        """Copy the kept views into another tool's layout; what is there already is kept.

        Args:
            kind: webdataset (tars), trellis (renders/, ss_latents/, metadata.csv), or coco
                (images/, annotations.json with RLE masks).
            out: a new folder or URL, or that of an interrupted export.
            root: the workspace.
            instances: trellis: an entry for every instance too.
            workers: the most that run at once; above 1, Ray runs them.
            ray_address: address of a Ray cluster.
        """
        flags = RunFlags(root=root, workers=workers, ray_address=ray_address)
        with closing(flags.executor()) as executor:
            written = export(kind, Folder.at(root), Folder.at(out), executor, instances=instances)
        sys.stdout.write(f"export {kind}: {written} in {out}\n")

    tyro.cli(command, prog="datagen export", args=arguments)


def _options(flags: RunFlags) -> RunOptions:
    return RunOptions(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(RunOptions)})


def _flag(arguments: list[str], name: str) -> str | None:
    for index, word in enumerate(arguments):
        if word == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None


HELP = """usage: datagen VERB [flags]      (datagen VERB --help lists a verb's flags)

  assets     open, clean and measure single 3D objects
  layouts    random collision-free scenes of them
  render     views of every scene; views with a fully occluded object dropped
  encode     view-centric voxels and their latents
  train      the flow transformer with scene-context attention
  infer      sample scenes from views with the trained model, or from --image and --masks
  evaluate   score sampled scenes against the truth, or any methods' files: --pred and --gt

  run        a whole pipeline: datagen run demo --root demo
  plan       rows, bytes and hours of a verb, from a few units made on trial
  report     write a workspace's report.html
  show       print a dataset's manifest: datagen show dataset/layouts
  export     copy the views into another tool's layout: webdataset, trellis or coco
  doctor     what works on this machine, and the command that mends the rest
  verify     check data against manifests and references; exit code 1 if something is wrong

Workspace: --root (default ./dataset). Typed in this order into an empty folder, `layouts`,
`render`, `train` and `infer` are a complete run.
"""

if __name__ == "__main__":
    sys.exit(main())
