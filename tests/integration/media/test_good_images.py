"""Images of every format and shape that people have come out upright, in RGB, with the right colours."""

import io

import numpy as np
import pytest
from media_samples import BLUE, GREEN, NEEDS, RED, YELLOW, corners, encoded, ref_to, seen_corners
from PIL import Image, ImageCms

from service.contract.media import MediaKind, MediaNeeds
from workers.media.decoded import DecodedImage
from workers.media.limits import MediaLimits
from workers.media.media import Media

IMAGE = MediaKind.IMAGE
UPRIGHT = [RED, GREEN, BLUE, YELLOW]


def near(seen: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 12) -> bool:
    return bool(np.abs(np.array(seen) - np.array(expected)).max() <= tolerance)


def animated(format: str) -> bytes:
    return encoded(corners(), format, save_all=True, append_images=[Image.new("RGB", (96, 64))])


def with_transparency() -> Image.Image:
    image = corners().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    return image


PICTURES = {
    "jpeg": lambda: encoded(corners(), "JPEG", quality=95),
    "progressive jpeg": lambda: encoded(corners(), "JPEG", quality=95, progressive=True),
    "cmyk jpeg": lambda: encoded(corners().convert("CMYK"), "JPEG", quality=95),
    "multi-picture jpeg": lambda: encoded(
        corners(), "MPO", save_all=True, append_images=[corners()], quality=95
    ),
    "png": lambda: encoded(corners(), "PNG"),
    "png with a palette": lambda: encoded(corners().quantize(8), "PNG"),
    "png with alpha": lambda: encoded(corners().convert("RGBA"), "PNG"),
    "animated png": lambda: animated("PNG"),
    "webp": lambda: encoded(corners(), "WEBP", quality=95),
    "lossless webp": lambda: encoded(corners(), "WEBP", lossless=True),
    "animated webp": lambda: animated("WEBP"),
    "gif": lambda: encoded(corners().quantize(16), "GIF"),
    "animated gif": lambda: animated("GIF"),
    "bmp": lambda: encoded(corners(), "BMP"),
    "tiff": lambda: encoded(corners(), "TIFF"),
    "deflated tiff": lambda: encoded(corners(), "TIFF", compression="tiff_deflate"),
    "cmyk tiff": lambda: encoded(corners().convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "lab tiff": lambda: encoded(lab_corners(), "TIFF"),
}


def lab_corners() -> Image.Image:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    image = ImageCms.applyTransform(corners(), to_lab)
    assert image is not None
    return image


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_keeps_its_corners(name, load):
    decoded = load(IMAGE, PICTURES[name]())

    assert isinstance(decoded, DecodedImage)
    assert decoded.pixels.shape == (64, 96, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.writeable
    assert decoded.original_size == (96, 64)
    assert decoded.num_bytes == 64 * 96 * 3
    assert near(seen_corners(decoded.pixels), UPRIGHT)


def test_a_png_comes_through_to_the_bit(load):
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)

    decoded = load(IMAGE, encoded(Image.fromarray(noise), "PNG"))

    np.testing.assert_array_equal(decoded.pixels, noise)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_the_camera_was_held(orientation, format, load):
    held = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = corners()
    for move in held[orientation]:
        stored = stored.transpose(move)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {"quality": 95}

    decoded = load(IMAGE, encoded(stored, format, exif=exif, **options))

    assert decoded.pixels.shape == (64, 96, 3)
    assert decoded.original_size == (96, 64)
    assert near(seen_corners(decoded.pixels), UPRIGHT)


def test_broken_exif_does_not_spoil_a_good_picture(load):
    decoded = load(
        IMAGE, encoded(corners(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(40))
    )

    assert near(seen_corners(decoded.pixels), UPRIGHT)


@pytest.mark.parametrize(
    "image",
    [
        with_transparency(),
        with_transparency().convert("LA"),
        Image.new("P", (96, 64), 0),
    ],
    ids=["rgba", "grey with alpha", "palette"],
)
def test_what_is_transparent_lies_on_white(image, load):
    options = {"transparency": 0} if image.mode == "P" else {}

    decoded = load(IMAGE, encoded(image, "PNG", **options))

    assert (decoded.pixels == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_by_their_upper_half(format, load):
    ramp = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)

    decoded = load(IMAGE, encoded(Image.fromarray(ramp), format))

    assert np.abs(decoded.pixels[..., 0].astype(int) - (ramp >> 8)).max() <= 1
    assert (decoded.pixels[..., 0] == decoded.pixels[..., 2]).all()


def test_one_bit_and_grey_pictures_become_rgb(load):
    for mode in ("1", "L"):
        decoded = load(IMAGE, encoded(Image.new(mode, (32, 32), 1 if mode == "1" else 255), "PNG"))
        assert (decoded.pixels == 255).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_large_picture_is_scaled_to_what_the_model_wants(format, load):
    decoded = load(IMAGE, encoded(corners(1600, 1000), format), max_pixels=100_000)

    height, width, _ = decoded.pixels.shape
    assert 95_000 < width * height <= 100_000
    assert width / height == pytest.approx(1.6, rel=0.01)
    assert decoded.original_size == (1600, 1000)
    assert near(seen_corners(decoded.pixels), UPRIGHT)


def test_a_request_cannot_ask_for_more_pixels_than_the_model_takes(load):
    needs = MediaNeeds(takes=frozenset({IMAGE}), max_pixels=5_000)

    assert load(IMAGE, encoded(corners(), "PNG"), needs, max_pixels=10**7).pixels.size <= 3 * 5_000


def test_a_picture_is_found_by_path_by_file_url_and_by_file_id(load, root, uploads):
    path = root / "a folder" / "corner #1 100%.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(corners(), "PNG"))
    uploads["default", "file-corners"] = path

    for url in (
        str(path),
        path.as_uri(),
        f"file://localhost{path}",
        f"{root}/x/../a folder/{path.name}",
        "file-corners",
    ):
        assert load(IMAGE, url).original_size == (96, 64)


def test_an_upload_may_be_a_stream():
    data = encoded(corners(), "PNG")
    with Media(
        MediaLimits(), read_upload=lambda tenant_id, file_id: io.BytesIO(data), num_decoders=1
    ) as media:
        assert media.load(ref_to(IMAGE, "file-1"), NEEDS, "default").num_bytes == 64 * 96 * 3
