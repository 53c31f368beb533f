"""Vision transformers of any width (Dosovitskiy et al. 2021): torchvision's, at the proportions of Appendix A.

With hidden dimension d: 6 layers, d/32 attention heads, d → 2d → d in each MLP, patches of 4×4 (64 of them on 32×32
images, with a class token and learned positions), no dropout. 209 thousand parameters at d = 64, 3.2 million at 256.
"""

import math
from collections.abc import Sequence

from torch import nn

LAYERS = 6
HEAD = 32  # dimensions a head


def check_patch(patch: int, in_shape: Sequence[int]) -> None:
    """Raise ValueError unless patches of this side tile the square images of `in_shape` C×H×W."""
    _, height, side = in_shape
    if height != side or side % patch:
        allowed = ", ".join(str(p) for p in range(1, side + 1) if side % p == 0) if height == side else "no side"
        raise ValueError(f"patch = {patch!r}: cannot tile images of {height}×{side}; {allowed} can")


def vit(width: int, in_shape: Sequence[int], classes: int, patch: int = 4) -> nn.Module:
    """The transformer of hidden dimension `width` for square inputs of `in_shape` C×H×W.

    patch: the side of a patch; the 8×8 digits, which are not in the paper, have 4 of the usual ones.
    Raises ValueError unless patches tile a square.
    """
    from torchvision.models import VisionTransformer  # takes seconds that no other network should pay

    check_patch(patch, in_shape)
    channels, _, side = in_shape
    model = VisionTransformer(side, patch, LAYERS, width // HEAD, width, 2 * width, num_classes=classes)
    if channels != 3:  # torchvision's is for colour; the initialization is the same
        model.conv_proj = nn.Conv2d(channels, width, patch, patch)
        nn.init.trunc_normal_(model.conv_proj.weight, std=math.sqrt(1 / (channels * patch**2)))
        nn.init.zeros_(model.conv_proj.bias)
    return model
