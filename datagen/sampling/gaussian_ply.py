"""Gaussians in PLY files, as gsplat and common viewers read them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datagen.core.frames import Z_UP_TO_Y_UP
from datagen.models.structured_latent_decoders import Gaussians

EPSILON = 1e-6
"""Opacities are kept this far from 0 and 1, where a logit is infinite."""


def write_gaussian_ply(path: Path, gaussians: Gaussians) -> None:
    """Write Gaussians, Y-up, in the format of "3D Gaussian Splatting" (Kerbl et al. 2023).

    Each has little-endian float32 values: x y z, nx ny nz (zero), f_dc_0..2, opacity (logit),
    scale_0..2 (log), rot_0..3 (w x y z).
    """
    rotation = torch.tensor(Z_UP_TO_Y_UP[:3, :3], dtype=torch.float32)
    xyz = gaussians.xyz.cpu().float() @ rotation.T
    opacity = torch.logit(gaussians.opacity.cpu().float().clamp(EPSILON, 1 - EPSILON))
    columns = torch.cat(
        [
            xyz,
            torch.zeros_like(xyz),
            gaussians.features.cpu().float().flatten(1),
            opacity,
            gaussians.scaling.cpu().float().log(),
            rotate_quaternions(gaussians.rotation.cpu().float()),
        ],
        dim=1,
    )
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(columns)}"]
    lines += [f"property float {name}" for name in names] + ["end_header", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode() + columns.numpy().astype("<f4").tobytes())


def rotate_quaternions(rotation: Tensor) -> Tensor:
    """Return unit quaternions (N, 4), w x y z, in y_up for those in z_up: -90° about X."""
    half = float(np.sqrt(0.5))
    w, x, y, z = rotation.unbind(dim=1)
    # (half - half·i) · (w + x·i + y·j + z·k)
    return half * torch.stack([w + x, x - w, y + z, z - y], dim=1)
