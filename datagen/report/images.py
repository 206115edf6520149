"""Images whose bytes are in the page."""

import base64
import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image


def image(pixels: NDArray[np.uint8], alt: str, *, max_px: int = 320, exact: bool = False) -> Markup:
    """Return an image as HTML, its longer side at most ``max_px``.

    Args:
        pixels: (H, W, 3 or 4), sRGB, straight alpha.
        alt: what the image shows, for readers who cannot see it.
        max_px: larger images are made smaller.
        exact: keep every pixel's colour, for drawings and maps: pixels are never blended.
    """
    shown = Image.fromarray(pixels)
    if max(shown.size) > max_px:
        factor = max_px / max(shown.size)
        size = (max(1, round(shown.width * factor)), max(1, round(shown.height * factor)))
        shown = shown.resize(size, Image.Resampling.NEAREST if exact else None)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", lossless=exact, quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    html = Markup('<img alt="{}" src="data:image/webp;base64,{}" loading="lazy">')
    return html.format(alt, data)
