"""Pictures: which are accepted, how they are converted, and how they are served."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from conftest import picture
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from my_flask_webpage import media
from my_flask_webpage.media import PictureError, store


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_picture_is_kept_in_several_widths(tmp_path: Path, kind: str):
    found = store(picture(kind, (1000, 500)), tmp_path)
    assert (found.width, found.height, found.widths) == (1000, 500, [480, 960, 1000])
    for width in found.widths:
        with Pillow.open(tmp_path / f"{found.digest}-{width}.webp") as image:
            assert image.format == "WEBP"
            assert image.size == (width, width // 2)
            assert image.getpixel((width // 4, 20))[0] > 200  # red on the left
    with Pillow.open(tmp_path / f"{found.digest}.jpg") as image:
        assert image.format == "JPEG"


def test_same_picture_is_kept_once_and_written_once(tmp_path: Path):
    first = store(picture(), tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert store(picture(), tmp_path) == first
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
    assert store(picture(size=(61, 40)), tmp_path).digest != first.digest


def test_small_picture_has_its_own_width_alone(tmp_path: Path):
    assert store(picture(size=(3, 1)), tmp_path).widths == [3]


def test_large_picture_is_made_smaller(tmp_path: Path):
    found = store(picture(size=(6000, 4000), quality=30), tmp_path)
    assert (found.width, found.height) == (2400, 1600)


def exif(orientation: int) -> Pillow.Exif:
    data = Pillow.Exif()
    data[0x0112] = orientation
    data[0x010F] = "Maker"
    data.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPSLatitude
    return data


def test_picture_is_turned_upright_and_freed_of_metadata(tmp_path: Path):
    data = picture(exif=exif(6), comment=b"secret place")
    # Negative control: the upload contains all of it.
    assert b"Maker" in data
    assert b"secret place" in data
    found = store(data, tmp_path)
    assert (found.width, found.height) == (40, 60)
    for file in tmp_path.iterdir():
        with Pillow.open(file) as image:
            assert dict(image.getexif()) == {}
            assert not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)
            assert image.getpixel((20, 10))[0] > 200  # what was left is up
        for trace in (b"Maker", b"secret place", b"Exif"):
            assert trace not in file.read_bytes()


def test_colours_of_a_profile_are_converted(tmp_path: Path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    plain = store(picture(), tmp_path)
    assert store(picture(icc_profile=b"broken"), tmp_path).width == plain.width
    assert store(picture(icc_profile=profile), tmp_path).width == plain.width


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("1", "PNG"),
     ("I;16", "PNG"), ("RGBA", "WEBP")],
)  # fmt: skip
def test_every_kind_of_pixel_is_taken(tmp_path: Path, mode: str, kind: str):
    file = io.BytesIO()
    Pillow.new(mode, (30, 20)).save(file, kind)
    found = store(file.getvalue(), tmp_path)
    assert (found.width, found.height) == (30, 20)
    if mode == "RGBA":
        with Pillow.open(tmp_path / f"{found.digest}-30.webp") as image:
            assert image.mode == "RGBA"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a" + b"\0" * 50,
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"<?php system($_GET['c']);",
    ],
)
def test_refuses_a_file_that_is_no_image(tmp_path: Path, data: bytes):
    with pytest.raises(PictureError):
        store(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_picture_of_a_kind_that_is_not_taken_is_refused_whatever_its_name(tmp_path: Path):
    for kind in ("GIF", "BMP", "TIFF"):
        with pytest.raises(PictureError, match="not a JPEG, PNG or WebP"):
            store(picture(kind), tmp_path)


def test_damaged_picture_is_refused(tmp_path: Path):
    data = picture("PNG", (400, 400))
    for length in (30, 60, len(data) // 2):
        with pytest.raises(PictureError):
            store(data[:length], tmp_path)
    assert list(tmp_path.iterdir()) == []


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to this number of black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    rows = zlib.compress(b"\0" * min((width // 8 + 1) * height, 10_000_000), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(4001, 4000), (16_001, 1), (1, 16_001), (60_000, 60_000)])
def test_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    data = bomb(*size)
    assert len(data) < 50_000

    def load(*arguments: object) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(PictureError, match=r"pixels|not a JPEG"):
        store(data, tmp_path)
    # Negative control: a picture within the limit is decoded.
    with pytest.raises(PictureError, match="damaged"):
        store(bomb(4000, 4000), tmp_path)


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_picture_or_refused(data: bytes):
    with pytest.raises(PictureError):
        store(data, Path("/nonexistent"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_any_bytes_changed_is_taken_or_refused(tmp_path: Path, kind: str):
    original = picture(kind, exif=exif(3).tobytes())

    @settings(max_examples=120)
    @given(st.lists(st.tuples(st.integers(0, len(original) - 1), st.integers(0, 255)), min_size=1))
    def check(changes: list[tuple[int, int]]) -> None:
        data = bytearray(original)
        for place, value in changes:
            data[place] = value
        try:
            found = store(bytes(data), tmp_path)
        except PictureError:
            return
        assert found.width > 0

    check()


def test_media_are_served_for_a_year_and_asked_for_again_cheaply(
    client: FlaskClient, media_dir: Path
):
    found = store(picture(), media_dir)
    address = f"/media/{found.digest}-60.webp"
    with client.get(address) as response:
        assert response.status_code == 200
        assert response.mimetype == "image/webp"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        for part in ("public", "max-age=31536000", "immutable"):
            assert part in response.headers["Cache-Control"]
        tag, modified = response.headers["ETag"], response.headers["Last-Modified"]
    for headers in ({"If-None-Match": tag}, {"If-Modified-Since": modified}):
        with client.get(address, headers=headers) as response:
            assert response.status_code == 304


@pytest.mark.parametrize(
    "name",
    ["../config.py", "%2e%2e/config.py", "x.webp", "0" * 32 + ".svg", "0" * 32 + "-480.webp", ""],
)
def test_nothing_else_is_served_from_there(client: FlaskClient, name: str):
    assert client.get(f"/media/{name}").status_code == 404


def test_memory_stays_small_for_the_largest_pictures(tmp_path: Path):
    """A web process has about 100 MB to spare; pictures are decoded one at a time."""
    import subprocess
    import sys

    code = """
import resource, sys
from pathlib import Path
from my_flask_webpage import media
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
media.store(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    for name, data in (
        ("photo.jpg", picture("JPEG", (8600, 5800), quality=20)),
        ("drawing.png", picture("PNG", (4000, 4000))),
    ):
        (tmp_path / name).write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name), str(tmp_path / "media")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout.split()[-1]) < 110, name


def test_recipe_is_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A new quality or width gives new file names, so that caches do not mix the files up."""
    before = store(picture(), tmp_path).digest
    monkeypatch.setattr(media, "RECIPE", b"other")
    assert store(picture(), tmp_path).digest != before
