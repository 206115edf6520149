"""Pipelines: named sets of stage fields. Each is a file in ``pipelines/``."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from datagen.engine.stage import Stage
from datagen.errors import ConfigError
from datagen.stages.assets import PrepareAssets
from datagen.stages.encode import EncodeLatents
from datagen.stages.evaluate import EvaluateScenes
from datagen.stages.given_layouts import TakeLayouts
from datagen.stages.infer import InferScenes
from datagen.stages.layouts import SampleLayouts
from datagen.stages.render import RenderViews
from datagen.stages.train import TrainFlow


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One stage per verb, in the order in which they run."""

    assets: PrepareAssets = field(default_factory=PrepareAssets)
    layouts: SampleLayouts | TakeLayouts = field(default_factory=SampleLayouts)
    render: RenderViews = field(default_factory=RenderViews)
    encode: EncodeLatents = field(default_factory=EncodeLatents)
    train: TrainFlow = field(default_factory=TrainFlow)
    infer: InferScenes = field(default_factory=InferScenes)
    evaluate: EvaluateScenes = field(default_factory=EvaluateScenes)

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Yield each verb and its stage, in the order in which they run."""
        for entry in fields(self):
            yield entry.name, getattr(self, entry.name)


def pipelines_folder() -> Path:
    """Return ``pipelines/``: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "pipelines"
    return inside if inside.is_dir() else package.parent / "pipelines"


def pipeline_names() -> list[str]:
    """Return the names of all pipelines, sorted."""
    return sorted(path.stem for path in pipelines_folder().glob("[!_]*.py"))


def load_pipeline(name: str) -> Pipeline:
    """Return the pipeline of that name.

    Raises:
        ConfigError: there is no such pipeline; the message lists all pipelines.
    """
    folder, known = pipelines_folder(), pipeline_names()
    if name not in known:
        raise ConfigError(
            f"unknown pipeline {name!r}; {folder} holds {', '.join(known)}. Choose one of them."
        )
    spec = importlib.util.spec_from_file_location(f"pipelines.{name}", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None, name
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pipeline = module.PIPELINE
    assert isinstance(pipeline, Pipeline), pipeline
    return pipeline
