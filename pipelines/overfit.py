"""One scene, four views, trained until the model reproduces them: proof that it learns."""

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
    layouts=SampleLayouts(num_layouts=1, min_objects=4, max_objects=4),
    render=RenderViews(num_views=4, resolution_px=256),
    encode=EncodeLatents(),
    train=TrainFlow(config=TrainConfig(max_steps=800), val_fraction=0.0),
    infer=InferScenes(split="train", views_per_scene=4),
    evaluate=EvaluateScenes(points_per_object=4096),
)
