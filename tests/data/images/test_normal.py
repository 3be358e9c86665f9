import io
import time
import zlib
from contextlib import suppress
from typing import Any

import image_files as files
import numpy as np
import pytest
from PIL import Image, ImageOps

from tunesmith.data.images import headers
from tunesmith.data.images.normal import CONVERTED, LAID_ON_WHITE, TURNED, normal
from tunesmith.data.images.settings import Images
from tunesmith.data.records import RowError

LIMITS = Images()


def pixels(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16))


GOOD = {
    "PNG": (files.png(1), ".png", ()),
    "JPEG": (files.jpeg(1), ".jpg", ()),
    "progressive JPEG": (files.jpeg(1, progressive=True), ".jpg", ()),
    "JPEG with restarts": (files.jpeg(1, restart_marker_blocks=1), ".jpg", ()),
    "JPEG and a film after its end": (files.jpeg(1) + b"\0\0\0\x18ftypmp42" + bytes(5000), ".jpg", ()),
    "JPEG with further pictures, as telephones write": (files.animated("MPO"), ".jpg", ()),
    "PNG and an archive after its end": (files.png(1) + b"PK\3\4" + bytes(5000), ".png", ()),
    "JPEG with a colour profile": (files.jpeg(1, icc_profile=bytes(70_000)), ".jpg", ()),
    "PNG with a colour profile and a date": (
        files.with_chunks(files.png(1, icc_profile=bytes(500)), (b"tIME", b"\x07\xe8\1\1\0\0\0")),
        ".png",
        (),
    ),
    "lossless WebP": (files.encoded(files.picture(1), "WEBP", lossless=True), ".png", ()),
    "lossy WebP": (files.encoded(files.picture(1), "WEBP"), ".png", ()),
    "turned JPEG": (files.jpeg(1, turned=6), ".png", (TURNED,)),
    "opaque RGBA": (files.encoded(Image.new("RGBA", (5, 7), (1, 2, 3, 255))), ".png", ()),
    "grey JPEG": (files.encoded(files.picture(1, mode="L"), "JPEG"), ".png", (CONVERTED,)),
    "palette": (files.encoded(files.picture(1, mode="P")), ".png", (CONVERTED,)),
    "transparent palette": (
        files.encoded(Image.new("RGBA", (5, 7), (1, 2, 3, 0)).quantize(8)),
        ".png",
        (LAID_ON_WHITE,),
    ),
    "a colour that is transparent": (
        files.encoded(Image.new("RGB", (5, 7), (1, 2, 3)), transparency=(1, 2, 3)),
        ".png",
        (LAID_ON_WHITE,),
    ),
    "black and white": (files.encoded(files.picture(1, mode="1")), ".png", (CONVERTED,)),
    "CMYK": (files.encoded(files.picture(1, mode="CMYK"), "JPEG"), ".png", (CONVERTED,)),
    "16 bits": (files.encoded(sixteen_bits()), ".png", (CONVERTED,)),
    "transparent": (files.encoded(Image.new("RGBA", (5, 7), (1, 2, 3, 0))), ".png", (LAID_ON_WHITE,)),
    "transparent grey": (files.encoded(Image.new("LA", (5, 7), (9, 100))), ".png", (LAID_ON_WHITE,)),
    "transparent WebP": (files.encoded(files.picture(1, mode="RGBA"), "WEBP"), ".png", (LAID_ON_WHITE,)),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_becomes_one_form_with_its_pixels(name: str) -> None:
    data, suffix, remarks = GOOD[name]
    image = normal(data, LIMITS)
    assert (image.suffix, image.remarks) == (suffix, remarks)
    with Image.open(io.BytesIO(image.content)) as stored:
        assert (stored.mode, stored.format) == ("RGB", {".png": "PNG", ".jpg": "JPEG"}[suffix])
        assert (image.part["width"], image.part["height"]) == stored.size
        assert not stored.getexif()
        assert stored.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive",
                                      "progression"}  # fmt: skip
    if not remarks:
        assert np.array_equal(pixels(image.content), pixels(data))
    again = normal(image.content, LIMITS)
    assert (again.part, again.content, again.remarks) == (image.part, image.content, ())


def test_a_turned_photograph_is_upright_and_16_bits_keep_their_range() -> None:
    assert np.array_equal(pixels(normal(files.jpeg(1, turned=6), LIMITS).content), np.rot90(pixels(files.jpeg(1)), -1))
    grey = pixels(normal(files.encoded(sixteen_bits()), LIMITS).content)
    assert (grey.min(), grey.max()) == (0, 255)
    white = normal(files.encoded(Image.new("RGBA", (5, 7), (1, 2, 3, 0))), LIMITS)
    assert (pixels(white.content) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_kind_is_turned_as_its_exif_data_says(kind: str, orientation: int) -> None:
    plain = files.encoded(files.picture(1), kind, lossless=True)
    for said in (
        files.exif(orientation),
        files.exif(orientation, order=">"),
        files.exif(orientation, others=3, kind=4),
    ):
        data = files.encoded(files.picture(1), kind, lossless=True, exif=b"Exif\0\0" + said)
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        made = normal(data, LIMITS)
        assert np.array_equal(pixels(made.content), expected)
        assert made.remarks == ((TURNED,) if 2 <= orientation <= 8 else ())
        assert (made.part["image"] == normal(plain, LIMITS).part["image"]) == (made.remarks == ())


def test_exif_data_that_is_broken_turns_nothing() -> None:
    whole = files.exif(6)
    for broken in [whole[:end] for end in range(20)] + [b"II*\0" + b"\xff" * 12, b"XX" + whole[2:]]:
        image = normal(files.with_chunks(files.png(1), (b"eXIf", broken)), LIMITS)
        assert image.part == normal(files.png(1), LIMITS).part


def test_no_thumbnail_within_a_jpeg_is_kept() -> None:
    small = b"JFIF\0\x01\x02\0\0\x48\0\x48\x02\x02" + b"secret pixel"
    data = files.with_segments(files.jpeg(1)[:2] + files.jpeg(1)[20:], (0xE0, small), (0xE0, b"JFXX\0\x13secret"))
    made = normal(data, LIMITS)
    assert b"secret" not in made.content
    assert np.array_equal(pixels(made.content), pixels(files.jpeg(1)))


HEAVY = {
    "JPEG, filled": files.jpeg(1)[:2] + b"\xff" * 5_000_000 + files.jpeg(1)[2:],
    "JPEG, markers without content": files.jpeg(1)[:2] + b"\xff\xd0" * 2_000_000 + files.jpeg(1)[2:],
    "PNG, a text of 50 MB": files.with_chunks(files.png(1), (b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
    "PNG, a profile of 50 MB": files.with_chunks(files.png(1), (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
    "PNG, 60,000 texts": files.with_chunks(files.png(1), *[(b"tEXt", b"a\0b")] * 60_000),
    "PNG, tags of 10 GB": files.with_chunks(
        files.png(1), (b"eXIf", files.exif(1, others=20_000, size=500_000) + bytes(500_000))
    ),
}


@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.filterwarnings("error")
def test_metadata_costs_little_however_large_it_is(name: str) -> None:
    plain = files.jpeg(1) if name.startswith("JPEG") else files.png(1)
    started = time.process_time()
    assert normal(HEAVY[name], LIMITS).part == normal(plain, LIMITS).part
    assert time.process_time() - started < 1


def test_a_machine_without_memory_makes_no_damaged_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: (_ for _ in ()).throw(MemoryError))
    monkeypatch.setattr(Image, "open", lambda *_, **__: Image.new("RGB", (24, 16)))
    with pytest.raises(MemoryError):
        normal(files.png(1), LIMITS)


def test_metadata_makes_no_other_image() -> None:
    plain, told = files.encoded(files.picture(1), "JPEG"), files.jpeg(1)
    assert b"sweet home" in told
    assert normal(plain, LIMITS).content == normal(told, LIMITS).content
    assert normal(files.png(1), LIMITS).part == normal(files.png(1, dpi=(300, 300)), LIMITS).part
    assert normal(files.png(1), LIMITS).part["image"] != normal(files.png(2), LIMITS).part["image"]


def scans(count: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A JPEG with empty scans before its end."""
    data = files.encoded(files.picture(1, size), "JPEG")
    return data[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * count + data[-2:]


BAD = {
    "image too large: 3,600,000,000 pixels": (files.bomb(), "image too large: 60,000 × 60,000 pixels"),
    "WebP bomb": (files.webp_bomb(), "image too large: 16,384 × 16,384 pixels"),
    "JPEG of 5,000 scans": (scans(5000), "image too large: it has 5,001 scans"),
    "JPEG of 100 scans": (scans(99, (4000, 3000)), "image too large: it has 100 scans"),
    "PNG of 200,000 chunks": (
        files.with_chunks(files.png(1), *[(b"tEXt", b"")] * 200_000),
        "image too large: it consists of over 100,000 parts",
    ),
    "JPEG of 200,000 segments": (
        files.with_segments(files.jpeg(1), *[(0xFE, b"")] * 200_000),
        "image too large: it consists of over 100,000 parts",
    ),
    "no pixels": (files.bomb(0, 5), "image damaged: it has no pixels"),
    "header of another size": (files.bomb(100, 100)[:40], "image damaged"),
    "animated WebP": (files.animated("WEBP"), "image of another kind: it is animated"),
    "animated PNG": (files.animated("PNG"), "image of another kind: it is animated"),
    "GIF": (files.encoded(files.picture(1, mode="P"), "GIF"), "image of another kind: it is a GIF"),
    "BMP": (files.encoded(files.picture(1), "BMP"), "image of another kind: it is a BMP"),
    "TIFF": (files.encoded(files.picture(1), "TIFF"), "image of another kind: it is a TIFF"),
    "ICO": (files.encoded(files.picture(1, (16, 16)), "ICO"), "image of another kind: it is an ICO"),
    "EPS": (files.encoded(files.picture(1), "EPS"), "image of another kind: it is an EPS"),
    "PDF": (files.encoded(files.picture(1), "PDF"), "image of another kind: it is a PDF"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(20), "image of another kind: it is a HEIC"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image of another kind: it is an SVG"),
    "web page": (b"\n<!doctype html><title>404</title>", "image of another kind: it is a web page"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "image of another kind: it is a pointer of Git LFS",
    ),
    "nothing": (b"", "image of another kind: it is no image"),
    "text": (b"red", "image of another kind: it is no image"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_with_its_kind(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(RowError) as error:
        normal(data, LIMITS)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "progressive JPEG", "lossless WebP", "lossy WebP", "turned JPEG"])
def test_an_image_that_is_cut_off_anywhere_is_damaged(name: str) -> None:
    data = GOOD[name][0]
    for end in range(12, len(data) * 9 // 10, max(1, len(data) // 60)):
        with pytest.raises(RowError, match=r"^image (damaged|of another kind): "):
            normal(data[:end], LIMITS)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "progressive JPEG", "lossy WebP", "turned JPEG", "palette"])
def test_bytes_that_are_changed_anywhere_give_an_image_or_a_reason(name: str) -> None:
    data = GOOD[name][0]
    generator = np.random.default_rng(5)
    for _ in range(150):
        broken = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            broken[place] = generator.integers(0, 256)
        with suppress(RowError):
            assert normal(bytes(broken), LIMITS).part["width"] > 0


def test_limits_are_those_of_the_params() -> None:
    with pytest.raises(RowError, match=r"image too large: 24 × 16 pixels, and images.max_pixels is 100"):
        normal(files.png(1), Images(max_pixels=100))
    with pytest.raises(RowError, match=r"image too large: .* bytes, and images.max_bytes is 50"):
        normal(files.png(1), Images(max_bytes=50))


@pytest.mark.parametrize("name", GOOD)
def test_the_header_gives_the_size_that_decoding_does(name: str) -> None:
    data = GOOD[name][0]
    with Image.open(io.BytesIO(data)) as image:
        assert headers.read(data)[1:3] == image.size
