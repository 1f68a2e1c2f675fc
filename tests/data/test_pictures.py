"""Pictures of every mode: as they are seen, or refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kdlib.data.pictures import read_rgb


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def read(path: Path) -> np.ndarray:
    picture = read_rgb(str(path))
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, rng, suffix: str):
    values = rng.integers(0, 65_536, (12, 9)).astype(np.uint16)
    values[0, :3] = 0, 65_535, 128
    path = tmp_path / f"x.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 9 12 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    expected = np.rint(values / 65_535 * 255)
    assert (read(path) == expected[..., None]).all()
    assert len(np.unique(read(path))) > 50


def test_colour_of_16_bits_is_scaled(tmp_path: Path, rng):
    """A PNG by hand: PIL cannot write one."""
    values = rng.integers(0, 65_536, (5, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    path, content = tmp_path / "x.png", b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)
    assert np.abs(read(path) - values / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_pictures_are_put_upright(tmp_path: Path, orientation: int, suffix: str):
    """What lies in the file is turned so that the red corner is at the top left and the blue one at the top right."""
    upright = np.full((16, 32, 3), 128, np.uint8)
    upright[:8, :8], upright[:8, -8:] = (255, 0, 0), (0, 0, 255)
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, **quality)
    found = read(path)
    assert found.shape == upright.shape and np.abs(found - upright).max() <= 60
    assert np.abs(found - upright).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_note_about_the_camera_does_not_matter(tmp_path: Path, rng):
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for i, note in enumerate(
        (b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    ):
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path, exif=b"Exif\0\0" + note)
        assert (read(path) == pixels).all()


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_what_is_transparent_shows_white(tmp_path: Path, rng, suffix: str):
    pixels = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    pixels[:4, :, 3], pixels[4:8, :, 3] = 0, 255
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    expected = over_white(pixels[..., :3], pixels[..., 3])
    assert np.abs(read(path) - expected).max() <= 1
    assert (read(path)[:4] == 255).all() and (read(path)[4:8] == pixels[4:8, :, :3]).all()


def test_grey_with_transparency_is_composed(tmp_path: Path, rng):
    pixels = rng.integers(0, 256, (8, 8, 2), dtype=np.uint8)
    Image.fromarray(pixels, "LA").save(tmp_path / "x.png")
    expected = over_white(pixels[..., :1].repeat(3, 2), pixels[..., 1])
    assert np.abs(read(tmp_path / "x.png") - expected).max() <= 1


@pytest.mark.parametrize("transparency", [2, bytes([255, 0, 128, 255])])
def test_a_palette_with_transparency_is_composed(tmp_path: Path, transparency: int | bytes):
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]])
    picture = Image.fromarray((np.arange(64) % 4).reshape(8, 8).astype(np.uint8), "L").convert("P")
    picture.putdata(list(np.arange(64) % 4))
    picture.putpalette(colours.ravel().tolist())
    picture.save(tmp_path / "x.png", transparency=transparency)
    alpha = np.full(4, 255)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha = np.array(list(transparency))
    expected = over_white(colours, alpha)[np.arange(64) % 4].reshape(8, 8, 3)
    assert np.abs(read(tmp_path / "x.png") - expected).max() <= 1


def test_a_colour_that_stands_for_nothing_shows_white(tmp_path: Path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = 9, 8, 7
    Image.fromarray(pixels).save(tmp_path / "x.png", transparency=(9, 8, 7))
    assert (read(tmp_path / "x.png")[:2] == 255).all() and (read(tmp_path / "x.png")[2:] == 0).all()


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_inks_become_the_light_that_they_leave(tmp_path: Path, suffix: str):
    """CMYK, also in Adobe's JPEGs, which store the inks inverted."""
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8] = 255, 0, 0, 0
    inks[8:, :8] = 0, 128, 0, 64
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(inks, "CMYK").save(path, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    light = (255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255
    assert np.abs(read(path) - light).max() <= (12 if suffix == "jpg" else 1)


def test_one_bit_is_black_or_white(tmp_path: Path, rng):
    bits = rng.integers(0, 2, (8, 8)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "x.png")
    assert (read(tmp_path / "x.png") == 255 * bits[..., None]).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, rng, kind: type):
    path = tmp_path / "x.tif"
    Image.fromarray(rng.uniform(0, 1000, (8, 8)).astype(kind)).save(path)
    with pytest.raises(ValueError, match=r"^data file .*x.tif has pixels of mode '[FI]', whose range is not known"):
        read(path)


def test_plain_pictures_are_as_pil_reads_them(tmp_path: Path, rng):
    pixels = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    notes = PngInfo()
    notes.add_text("comment", "nothing")
    Image.fromarray(pixels).save(tmp_path / "x.png", pnginfo=notes)
    assert (read(tmp_path / "x.png") == pixels).all()
    Image.fromarray(pixels[..., 0]).save(tmp_path / "y.png")
    assert (read(tmp_path / "y.png") == pixels[..., :1]).all()


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gone.png is not a readable image"):
        read(tmp_path / "gone.png")
