"""The whole pipeline in minutes on a laptop: 24 scenes, 11 views each, the small networks."""

from datagen.stages.assets import PrepareAssets
from datagen.stages.encode import EncodeLatents
from datagen.stages.evaluate import EvaluateScenes
from datagen.stages.infer import InferScenes
from datagen.stages.layouts import SampleLayouts
from datagen.stages.pipeline import Pipeline
from datagen.stages.render import RenderViews
from datagen.stages.train import TrainFlow
from datagen.training import TrainConfig

PIPELINE = Pipeline(
    assets=PrepareAssets(),
    # In images of 128 pixels, the small network hardly sees the objects of a scene of twelve.
    layouts=SampleLayouts(num_layouts=24, max_objects=6),
    render=RenderViews(num_views=11, resolution_px=256),
    encode=EncodeLatents(),
    train=TrainFlow(config=TrainConfig(max_steps=1200), init="small", val_fraction=0.15),
    infer=InferScenes(split="all", max_scenes=16),
    evaluate=EvaluateScenes(points_per_object=4096),
)
