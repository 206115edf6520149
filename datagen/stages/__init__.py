"""The stages, for example ``datagen.run_stage(stages.RenderViews(num_views=150), "dataset")``.

Each stage is a frozen dataclass in its own file, and is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; a test compares the names with _HOMES
    from datagen.stages.assets import PrepareAssets as PrepareAssets
    from datagen.stages.encode import EncodeLatents as EncodeLatents
    from datagen.stages.evaluate import EvaluateScenes as EvaluateScenes
    from datagen.stages.evaluate_files import EvaluateFiles as EvaluateFiles
    from datagen.stages.given_layouts import TakeLayouts as TakeLayouts
    from datagen.stages.infer import InferScenes as InferScenes
    from datagen.stages.infer_images import InferImages as InferImages
    from datagen.stages.layouts import SampleLayouts as SampleLayouts
    from datagen.stages.render import RenderViews as RenderViews
    from datagen.stages.train import TrainFlow as TrainFlow

_HOMES = {
    "PrepareAssets": "datagen.stages.assets",
    "EncodeLatents": "datagen.stages.encode",
    "EvaluateScenes": "datagen.stages.evaluate",
    "EvaluateFiles": "datagen.stages.evaluate_files",
    "TakeLayouts": "datagen.stages.given_layouts",
    "InferScenes": "datagen.stages.infer",
    "InferImages": "datagen.stages.infer_images",
    "SampleLayouts": "datagen.stages.layouts",
    "RenderViews": "datagen.stages.render",
    "TrainFlow": "datagen.stages.train",
}
"""The module of each stage."""

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a stage when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'datagen.stages' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
