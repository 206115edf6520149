"""The command line: finds, parses and executes a command."""

import dataclasses
import inspect
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union

import tyro

from datagen.commands import (
    OTHERS,
    Command,
    PlanCommand,
    pipeline_command,
    stage_command,
)
from datagen.errors import ConfigError, DatagenError
from datagen.log import configure_logging
from datagen.stages.pipeline import Pipeline, load_pipeline, pipeline_names
from datagen.training.config import config_of

logger = logging.getLogger("datagen.cli")  # also when run as a script

STAGE_VERBS = tuple(field.name for field in dataclasses.fields(Pipeline))
COMMANDS = (*STAGE_VERBS, "run", "plan", *OTHERS)
Parsed = TypeVar("Parsed")
FLAGS = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success. 1: incomplete or bad data. 2: an error that the user can fix. 130: interrupted.

    Args:
        argv: the words after ``datagen``; by default those of the command line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    configure_logging()
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # schedulers send it; handled like Ctrl-C
    try:
        return dispatch(arguments)
    except DatagenError as error:
        sys.stderr.write(f"datagen: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("datagen: stopped. Finished work is safe; the same command resumes.\n")
        return 130
    except BrokenPipeError:  # as in `datagen … | head`: drop the rest of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def dispatch(arguments: list[str]) -> int:
    """Parse and execute a command; return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0 if arguments else 2
    command = parse(arguments)
    flags = getattr(command, "flags", None)
    configure_logging(flags is not None and (flags.verbose or bool(flags.only)))
    return command.execute()


def parse(arguments: list[str]) -> Command:
    """Return the command of the arguments, with its fields.

    Raises:
        ConfigError: there is no such command, or a value is invalid.
        SystemExit: tyro has printed the help, or an error about a flag.
    """
    word, rest = arguments[0], arguments[1:]
    if word.startswith("--tyro-"):  # shell completion of all commands
        command: Command = _parse(_any_of(command_types()), "datagen", arguments)
        return command
    if word in STAGE_VERBS:
        return _parse(stage_command(word, chosen_pipeline(rest)), f"datagen {word}", rest)
    if word == "plan":
        return _parse_plan(rest)
    if word == "run":
        return _parse_run(rest)
    if word in OTHERS:
        other: Command = _parse(OTHERS[word], f"datagen {word}", rest)
        return other
    raise ConfigError(f"unknown command {word!r}. Expected one of {', '.join(COMMANDS)}.")


def _parse_plan(arguments: list[str]) -> Command:
    verb = arguments[0] if arguments else "no verb"
    if verb not in STAGE_VERBS:
        raise ConfigError(
            f"plan: got {verb}. Expected `datagen plan VERB` with the verb's flags, "
            f"where VERB is one of {', '.join(STAGE_VERBS)}."
        )
    kind = stage_command(verb, chosen_pipeline(arguments[1:]))
    return PlanCommand(_parse(kind, f"datagen plan {verb}", arguments[1:]))


def _parse_run(arguments: list[str]) -> Command:
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(
            "run: no pipeline given. Expected `datagen run PIPELINE`, where PIPELINE is one of "
            f"{', '.join(pipeline_names())}; for example `datagen run demo`."
        )
    name = arguments[0]
    return _parse(pipeline_command(name), f"datagen run {name}", arguments[1:])


def _parse(kind: type[Parsed], prog: str, arguments: Sequence[str]) -> Parsed:
    summary = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return tyro.cli(kind, prog=prog, description=summary, args=arguments, config=FLAGS)


@dataclass(frozen=True)
class _Defaults:
    """The flags that decide the defaults of other flags."""

    pipeline: str | None = None
    model: str | None = None


def chosen_pipeline(arguments: Sequence[str]) -> Pipeline:
    """Return the pipeline whose stages give a verb's defaults, from --pipeline and --model."""
    given, _ = tyro.cli(_Defaults, args=arguments, return_unknown_args=True, add_help=False)
    pipeline = Pipeline() if given.pipeline is None else load_pipeline(given.pipeline)
    if given.model is None or given.model == pipeline.train.config.model:
        return pipeline
    config = config_of(given.model)
    train = dataclasses.replace(pipeline.train, config=config or pipeline.train.config)
    return dataclasses.replace(pipeline, train=train)


def command_types() -> dict[str, Any]:
    """Return the type of every command. ``plan`` and ``run`` are unions."""
    verbs = {verb: stage_command(verb, Pipeline()) for verb in STAGE_VERBS}
    plans = _wrapper("Plan", "command", _any_of(verbs))
    runs = _wrapper("Run", "pipeline", _any_of({n: pipeline_command(n) for n in pipeline_names()}))
    return {**verbs, "plan": plans, "run": runs, **OTHERS}


def _any_of(kinds: dict[str, Any]) -> Any:
    named = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()]
    return Union[tuple(named)]  # noqa: UP007  made at run time


def _wrapper(name: str, attribute: str, kind: Any) -> type[Any]:
    return dataclasses.make_dataclass(name, [(attribute, kind)], frozen=True)


HELP = """usage: datagen VERB [flags]      (datagen VERB --help lists a verb's flags)

  assets     open, clean and measure single 3D objects
  layouts    compose random scenes without collisions; with --source, take given rooms
  render     render views of every scene; drop views with a fully occluded object
  encode     make view-centric voxels and their latents
  train      train the flow transformer with scene-context attention
  infer      sample scenes with the trained model, from views or from --image and --masks
  evaluate   score sampled scenes against the truth; with --pred and --gt, files of any method

  run        run a whole pipeline: datagen run demo --root demo
  plan       estimate rows, bytes and hours of a verb from a few test units
  report     write a workspace's report.html
  show       print a dataset's manifest: datagen show dataset/layouts
  export     copy the views into another format: webdataset, trellis or coco
  doctor     show what works on this machine, and how to install what is missing
  verify     check data against manifests and references; exit code 1 if something is wrong

The workspace is --root (by default ./dataset). In an empty folder, the four commands `layouts`,
`render`, `train` and `infer` make a complete run. Print the shell completion with
`datagen --tyro-print-completion bash`.
"""

if __name__ == "__main__":
    sys.exit(main())
