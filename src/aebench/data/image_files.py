"""One file of an image: 8 bits a channel, opaque, upright."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aebench.data.raw_dataset import Images, check_size
from aebench.errors import DataError, plain
from aebench.extras import require

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP", "TIFF", "GIF")
# Pillow's names for kinds of pixels: those that are grey or RGB in another form, and those that are converted.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_CONVERTED = ("CMYK", "YCbCr")
# Pillow's names for samples of more than 8 bits that have no other form.
_DEEP_MODES = ("I", "F")


def read(path: Path, content: bytes, note: Callable[[str], None]) -> Images:
    """The pixels `[C, H, W]` of an image file, C = 1 where all of them are grey, else 3.

    Args:
        path: the file.
        content: its content.
        note: is told what was done to the image.

    Raises:
        DataError: it is no image, a film, or not of 8 bits, or it has transparent pixels.
    """
    require(__name__, "PIL")
    from PIL import Image, ImageOps
    from PIL.ExifTags import Base

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(path, image.size[::-1])
            _check_kind(path, image)
            if image.getexif().get(Base.Orientation, 1) in range(2, 9):
                note("turned upright, as their EXIF orientation says")
            # A TIFF is turned by Pillow itself as it is loaded.
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in _CONVERTED:
                note(f"converted from {upright.mode} to RGB")
            if upright.mode in ("1", "L"):
                return np.array(upright.convert("L"))[None]
            pixels = np.array(upright.convert("RGB")).transpose(2, 0, 1)
    except DataError:
        raise
    except Exception as error:  # readers of images fail in many ways
        raise DataError(f"{path} cannot be read as an image: {plain(error)}; mend or delete it") from None
    return pixels[:1] if (pixels == pixels[:1]).all() else pixels


def _check_kind(path: Path, image: "ImageFile") -> None:
    # A photograph's second picture in the same file (MPO) is its preview.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError(f"{path}: found several pictures in one file, allowed: one; save each as a file")
    if _deep(image):
        raise DataError(
            f"{path}: found samples of more than 8 bits, allowed: 8, 0 (black) to 255; "
            "save it with 8 bits, or all images as numbers from 0 to 1 in an archive"
        )
    if image.mode not in (*_MODES, *_CONVERTED):
        raise DataError(f"{path}: found pixels of the kind {image.mode}, allowed: grey, RGB or CMYK")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path}: found transparent pixels, allowed: opaque ones")


def _deep(image: "ImageFile") -> bool:
    """Whether samples have more than 8 bits in the file.

    Of RGB Pillow cuts them to 8 as it loads the image, and only the arguments of its decoders tell.
    """
    decoders = [args if isinstance(args, tuple) else (args,) for *_, args in image.tile]
    return image.mode.split(";")[0] in _DEEP_MODES or any(
        (isinstance(arg, str) and ";16" in arg and not arg.startswith("BGR"))  # a BMP's 16 bits are 5 a channel
        or (image.format == "PPM" and isinstance(arg, int) and arg > 255)  # its largest value
        for args in decoders
        for arg in args
    )
