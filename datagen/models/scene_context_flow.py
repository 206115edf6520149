"""I-Scene's flow transformer: in the middle blocks, every instance attends to its scene as well.

TRELLIS's checkpoints load unchanged, because scene-context attention has no parameters. The
published model runs each instance beside its scene, 2·N grids for N instances. The scene never
attends to an instance, so here one scene serves all of them: N + 1 grids.

Shapes: B batch, S slots, N instances, T condition tokens, C channels, R latent side.
"""

from typing import Any

import torch
from torch import Tensor

from datagen.models.sparse_structure_flow import SparseStructureFlowModel


class SparseStructureSceneContextFlowModel(SparseStructureFlowModel):
    """Velocities of instances and of their scene, all at one noise time t."""

    def __init__(self, *args: Any, scene_context_attn_num: int = 5, **kwargs: Any) -> None:
        """Build the base model; its middle ``scene_context_attn_num`` blocks get scene context."""
        super().__init__(*args, **kwargs)
        start = len(self.blocks) // 2 - scene_context_attn_num // 2
        self.scene_context_blocks = range(start, start + scene_context_attn_num)

    def forward(self, x: Tensor, t_times_1000: Tensor, cond: Tensor) -> Tensor:
        """Return the velocities (B, S, 8, R, R, R) of the published slots.

        Args:
            x: (B, S, 8, R, R, R), noisy latents. Slot 0, the instance, attends to every slot; each
                other slot to itself alone.
            t_times_1000: (B,), the noise time that the slots of a sample share, times 1000.
            cond: (B, S, T, C), image tokens.
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
        """Return the velocities of N instances, and of the scene that they share.

        Args:
            instances: (B, N, 8, R, R, R), noisy latents.
            scene: (B, 8, R, R, R), the scene's noisy latent.
            t_times_1000: (B,), the noise time that all grids of a sample share, times 1000.
            cond_instances: (B, N, T, C), image tokens.
            cond_scene: (B, T, C), image tokens.

        Returns:
            (B, N, 8, R, R, R) and (B, 8, R, R, R).
        """
        num_instances = instances.shape[1]
        x = torch.cat([instances, scene[:, None]], dim=1)
        cond = torch.cat([cond_instances, cond_scene[:, None]], dim=1)
        v = self.predict_grids(x, t_times_1000, cond, num_instances)
        return v[:, :num_instances], v[:, num_instances]
