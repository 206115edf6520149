"""Dense grids cut into cubic patches, and joined again.

B batch, C channels, R voxels along a side, P voxels along a patch's side, S = R/P patches along a
side.
"""

from torch import Tensor


def patchify(grids: Tensor, patch_size: int) -> Tensor:
    """Return the patches (B, S³, C·P³) of grids (B, C, R, R, R).

    Patches are ordered x, y, z; the values within one c, x, y, z; the last index runs fastest in
    both.
    """
    B, C, R = grids.shape[:3]
    P, S = patch_size, R // patch_size
    cut = grids.reshape(B, C, S, P, S, P, S, P).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cut.reshape(B, S**3, C * P**3)


def unpatchify(patches: Tensor, patch_size: int, side: int) -> Tensor:
    """Return the grids (B, C, R, R, R) whose patches (B, side³, C·P³) are given.

    The inverse of ``patchify``, with ``side`` patches along a side.
    """
    B, P, S = patches.shape[0], patch_size, side
    joined = patches.reshape(B, S, S, S, -1, P, P, P).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return joined.reshape(B, -1, S * P, S * P, S * P)
