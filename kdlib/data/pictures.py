"""One picture in a file, as 8-bit RGB: turned, scaled or composed as its format says, or refused."""

from typing import Any

import numpy as np
from PIL import Image

from kdlib.data.listing import shown

ORIENTATION = 0x0112  # EXIF's tag, and how a picture with each of its values is put upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
DIRECT = ("RGB", "L", "P", "1", "CMYK", "YCbCr")  # modes that PIL turns into RGB without loss of what is seen
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")


def read_rgb(path: str) -> Image.Image:
    """The picture in a file, upright, in mode RGB.

    16-bit grey is scaled to 8 bits, and what is transparent shows white, as on a page. Raises ValueError, naming the
    file, if it cannot be read, or if its pixels have no range that is known (32-bit integers, floats).
    """
    try:
        with Image.open(path) as image:
            image.load()
            rgb = _as_rgb(image)
            turn = UPRIGHT.get(_orientation(image))
    except Exception as error:  # damaged bytes make decoders raise almost any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"data file {shown(path)} is not a readable image ({reason})") from error
    if rgb is None:
        raise ValueError(
            f"data file {shown(path)} has pixels of mode {image.mode!r}, whose range is not known: save it with 8 bits "
            "a channel"
        )
    return rgb if turn is None else rgb.transpose(turn)


def _as_rgb(image: Image.Image) -> Image.Image | None:
    """The picture in mode RGB; None where nobody knows what its numbers stand for."""
    if image.mode in SIXTEEN or image.mode == "I" and image.format in ("PNG", "PPM"):  # there too, 16 bits are meant
        values = np.asarray(image).astype(np.int64)
        return None if "transparency" in image.info else _grey((values + 128) // 257)  # 65,535 becomes 255
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB") if image.mode in DIRECT else None


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> Any:
    """EXIF's number of how the camera was held; 1, upright, where the file does not say, or says it in broken words."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # what is beside the pixels may be damaged while they are whole
        return 1
