"""I-Scene's flow transformer: the middle blocks let every instance see the scene it stands in.

No parameter is added to TRELLIS's model, so its checkpoints load unchanged. Published slots are
[instance, scene]; the scene never sees the instances, so one scene branch can serve all of them:
N + 1 networks instead of 2·N.
"""

from typing import Any

import torch
from torch import Tensor

from datagen.models.sparse_structure_flow import SparseStructureFlowModel


class SparseStructureSceneContextFlowModel(SparseStructureFlowModel):
    """Velocities of instances and of their scene, all at one time t."""

    def __init__(self, *args: Any, scene_context_attn_num: int = 5, **kwargs: Any) -> None:
        """Build the base model; its middle ``scene_context_attn_num`` blocks see the scene."""
        super().__init__(*args, **kwargs)
        start = len(self.blocks) // 2 - scene_context_attn_num // 2
        self.scene_context_blocks = range(start, start + scene_context_attn_num)

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocities (B, S, 8, R, R, R) of published slots, given (B, S, T, C).

        Slot 0 is the instance and sees every slot; the others see themselves alone.
        """
        return self.predict_grids(x, t_times_1000, cond, num_targets=1)

    def forward_scene(
        self,
        instances: Tensor,
        scene: Tensor,
        t_times_1000: Tensor,
        cond_instances: Tensor,
        cond_scene: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the velocities of N instances and of the one scene that serves them all.

        Args:
            instances: (B, N, 8, R, R, R), noisy latents.
            scene: (B, 8, R, R, R), the scene's noisy latent.
            t_times_1000: (B,), the noise time that all of a sample share, times 1000.
            cond_instances: (B, N, T, C), image tokens.
            cond_scene: (B, T, C), image tokens.
        """
        num_instances = instances.shape[1]
        x = torch.cat([instances, scene[:, None]], dim=1)
        cond = torch.cat([cond_instances, cond_scene[:, None]], dim=1)
        v = self.predict_grids(x, t_times_1000, cond, num_instances)
        return v[:, :num_instances], v[:, num_instances]
