"""I-Scene's Rand-15K: 15,000 random scenes of Objaverse, 150 views each, the published networks.

The paper does not say which objects, and how many. The choice here is 10,000 objects drawn from
Objaverse, of licenses that allow derived data; ``--source`` and its flags choose others. Only
assets of the split ``train`` are placed, so that ``--split test`` gives scenes of unseen objects.
"""

from datagen.stages.assets import PrepareAssets
from datagen.stages.encode import EncodeLatents
from datagen.stages.evaluate import EvaluateScenes
from datagen.stages.infer import InferScenes
from datagen.stages.layouts import SampleLayouts
from datagen.stages.pipeline import Pipeline
from datagen.stages.render import RenderViews
from datagen.stages.train import TrainFlow
from datagen.training import ISCENE_L

TRELLIS = "microsoft/TRELLIS-image-large/ckpts"

PIPELINE = Pipeline(
    assets=PrepareAssets(
        source="objaverse", num_objects=10_000, license_allow=("CC0-1.0", "CC-BY-4.0")
    ),
    layouts=SampleLayouts(num_layouts=15_000, split="train"),
    render=RenderViews(num_views=150, resolution_px=512),
    encode=EncodeLatents(encoder=f"{TRELLIS}/ss_enc_conv3d_16l8_fp16"),
    train=TrainFlow(config=ISCENE_L, loader_workers=8),  # 512 px crops outgrow any cache
    infer=InferScenes(decoder=f"{TRELLIS}/ss_dec_conv3d_16l8_fp16"),
    evaluate=EvaluateScenes(),
)
