"""Images in a decoder child: one upright RGB picture, no larger than the model wants it."""

import math
import warnings
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal
from workers.media.wire import DecodeRequest, Output

# Pillow knows some forty formats; loading one of them, EPS, runs a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def decode_image(
    source: BinaryIO, request: DecodeRequest, limits: MediaLimits, out: Output
) -> dict[str, Any]:
    """Write one picture's RGB bytes to `out`; gives their shape and the size of the original."""
    image = _open(source, limits)
    width, height = image.size
    check_sides(width, height, limits)
    target = fit(width, height, request.max_pixels, limits.min_side_pixels)
    if target != image.size and isinstance(image, JpegImageFile):
        # The DCT can leave out detail while decoding; what is left is never smaller than the target.
        image.draft("RGB", target)
    image.load()
    rgb = _as_rgb(image)
    if rgb.size != target:
        rgb = rgb.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    turn = UPRIGHT.get(_orientation(image))
    if turn is not None:
        rgb = rgb.transpose(turn)
        if turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270) or turn.name.startswith("TRANS"):
            width, height = height, width
    out.write(rgb.tobytes())
    return {"shape": [rgb.height, rgb.width, 3], "original_size": [width, height]}


def check_sides(width: int, height: int, limits: MediaLimits) -> None:
    """Refuse shapes that break image processors: specks and threads."""
    shorter, longer = sorted((width, height))
    if shorter < limits.min_side_pixels:
        raise Refusal("media_too_small", width=width, height=height, limit_pixels=limits.min_side_pixels)
    if longer > shorter * limits.max_aspect:
        raise Refusal("media_aspect", width=width, height=height, limit_ratio=limits.max_aspect)


def fit(width: int, height: int, max_pixels: int, min_side: int) -> tuple[int, int]:
    """The largest size of this shape within `max_pixels`; no side falls below `min_side`."""
    if width * height <= max_pixels:
        return width, height
    scale = math.sqrt(max_pixels / (width * height))
    return max(min_side, int(width * scale)), max(min_side, int(height * scale))


def _open(source: BinaryIO, limits: MediaLimits) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = limits.max_image_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        image = Image.open(source, formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Refusal("media_too_many_pixels", limit_pixels=limits.max_image_pixels) from None
    except UnidentifiedImageError:
        raise Refusal("media_unrecognized") from None
    return image


def _orientation(image: Image.Image) -> int:
    """How the camera was held, by the EXIF table; 1 where there is none, or a broken one."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:
        # The picture itself was read; its notes may raise anything.
        return 1


def _as_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent lies on white."""
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        paper = Image.new("RGB", layered.size, "white")
        paper.paste(layered, mask=layered.getchannel("A"))
        return paper
    if image.mode in SIXTEEN_BITS:
        return image.point(lambda value: value / 256, "L").convert("RGB")
    if image.mode in ("I", "F"):
        raise Refusal("image_mode_unsupported")
    return image.convert("RGB")
