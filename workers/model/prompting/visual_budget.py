"""How much of a picture a model sees, in the words of each family's image processor.

Most processors make fewer tokens of a smaller picture, and the decoders have made it small already. Some enlarge it
again, or cut it into tiles whatever its size; these are told here.
"""

import math
from collections.abc import Sequence
from typing import Any

from workers.media.decoded import Decoded, DecodedImage
from workers.model.prompting.processors import Processor

# The numbers of tokens that Gemma 4's processor makes of a picture.
GEMMA4_TOKENS = (70, 140, 280, 560, 1120)


def image_options(processor: Processor, media: Sequence[Decoded]) -> dict[str, Any]:
    """Options of the image processor for these media; one call has one budget, the largest of its pictures'."""
    budgets = [medium.max_pixels for medium in media if isinstance(medium, DecodedImage)]
    if not budgets or None in budgets:
        return {}
    return _options(getattr(processor, "image_processor", None), max(filter(None, budgets)))


def _options(images: Any, max_pixels: int) -> dict[str, Any]:
    if hasattr(images, "max_soft_tokens"):
        return _gemma4(images, max_pixels)
    if hasattr(images, "do_image_splitting"):
        return _idefics(images, max_pixels)
    if hasattr(images, "max_slice_nums"):
        return {"max_slice_nums": _tiles(max_pixels, images.scale_resolution**2, images.max_slice_nums)}
    if hasattr(images, "dynamic_hd"):
        return {
            "dynamic_hd": _tiles(max_pixels, images.size["height"] * images.size["width"], images.dynamic_hd)
        }
    if hasattr(images, "resize_to_max_canvas"):
        return {
            "max_patches": _tiles(
                max_pixels, images.size["height"] * images.size["width"], images.max_patches
            )
        }
    return {}


def _tiles(max_pixels: int, tile_pixels: int, most: int) -> int:
    return max(1, min(most, max_pixels // tile_pixels))


def _gemma4(images: Any, max_pixels: int) -> dict[str, Any]:
    token_pixels = (images.patch_size * images.pooling_kernel_size) ** 2
    affordable = [tokens for tokens in GEMMA4_TOKENS if tokens * token_pixels <= max_pixels]
    return {"max_soft_tokens": min(images.max_soft_tokens, max(affordable, default=GEMMA4_TOKENS[0]))}


def _idefics(images: Any, max_pixels: int) -> dict[str, Any]:
    """Idefics 3 and SmolVLM enlarge a picture to whole tiles and add it in small; Idefics 2 adds four quarters."""
    if not images.do_image_splitting:
        return {}
    tile = getattr(images, "max_image_size", None)
    if not tile:
        return {"do_image_splitting": max_pixels > images.size["longest_edge"] ** 2}
    num_tiles = math.isqrt(max_pixels) // tile["longest_edge"]
    if num_tiles < 2:
        return {"do_image_splitting": False}
    return {"size": {"longest_edge": min(images.size["longest_edge"], num_tiles * tile["longest_edge"])}}
