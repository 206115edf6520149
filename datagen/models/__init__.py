"""Networks (tensors in, tensors out), and the files that hold their weights."""

from datagen.models.checkpoints import load_model, save_model
from datagen.models.published import find_scene_model, load_scene_model
from datagen.models.scene_context_flow import SparseStructureSceneContextFlowModel
from datagen.models.scene_model import MODEL_ARGS, ModelSize, SceneModel, build_model
from datagen.models.sparse_structure_flow import SparseStructureFlowModel
from datagen.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from datagen.models.structured_latent_decoders import SLatGaussianDecoder, SLatMeshDecoder
from datagen.models.structured_latent_encoder import SLatEncoder
from datagen.models.structured_latent_flow import SLatFlowModel
from datagen.models.weight_files import find_checkpoint

__all__ = [
    "MODEL_ARGS",
    "ModelSize",
    "SLatEncoder",
    "SLatFlowModel",
    "SLatGaussianDecoder",
    "SLatMeshDecoder",
    "SceneModel",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlowModel",
    "SparseStructureSceneContextFlowModel",
    "build_model",
    "find_checkpoint",
    "find_scene_model",
    "load_model",
    "load_scene_model",
    "save_model",
]
