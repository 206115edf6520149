"""Eight scenes of real furniture, four views each: proof that the model learns real objects.

The objects are Sweet Home 3D's in the public domain: ``--source-path`` names the folder of its
packs. ``benchmarks/generalisation.py`` compares the sampled scenes with the decoded true latents.
"""

from datagen.sampling.scenes import SamplerConfig
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
    assets=PrepareAssets(source="sweethome3d", packs=("BlendSwap-CC-0",)),
    layouts=SampleLayouts(num_layouts=8, min_objects=4, max_objects=4),
    render=RenderViews(num_views=4, resolution_px=256),
    encode=EncodeLatents(),
    train=TrainFlow(config=TrainConfig(max_steps=4000, instances_per_view=4), val_fraction=0.0),
    infer=InferScenes(split="train", views_per_scene=4, sampler=SamplerConfig(cfg_strength=0.5)),
    evaluate=EvaluateScenes(points_per_object=4096),
)
