"""Pictures: checked, turned upright, stripped of metadata, and stored in several widths.

Files are named after a digest of the upload and of the encoding settings. So the same picture is
stored once, a name always means the same content, and browsers may cache a file for a year.
"""

import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, current_app, send_from_directory
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from werkzeug.routing import BaseConverter

blueprint = Blueprint("media", __name__, url_prefix="/media")

# Recognised by their first bytes. SVG is not accepted, because it can contain scripts.
FORMATS = ("JPEG", "PNG", "WEBP")

# Widths of the files in pixels, for `srcset`. The largest file of a small picture keeps its width.
WIDTHS = (480, 960, 1600)
LONGEST_SIDE = 2400
QUALITY = 80
RECIPE = repr((WIDTHS, LONGEST_SIDE, QUALITY)).encode()

# In memory a picture takes up to 4 bytes per pixel, and twice that while it is scaled. A JPEG is
# decoded at a fraction of its size, so it may have more pixels.
MAX_PIXELS = {"JPEG": 50_000_000, "PNG": 16_000_000, "WEBP": 16_000_000}
MAX_SIDE = 16_000

ONE_YEAR_SECONDS = 365 * 24 * 60 * 60

# Limits the memory use: the threads of a process decode one picture at a time.
_at_work = threading.Lock()


class PictureError(Exception):
    """The upload is not an accepted picture; the message is written for the uploader."""


@dataclass(frozen=True)
class Picture:
    """A picture in the media folder.

    Attributes
    ----------
    digest : str
        The prefix of its file names.
    width, height : int
        Size of the largest file in pixels.
    widths : list[int]
        Widths of all files in pixels, ascending.
    """

    digest: str
    width: int
    height: int
    widths: list[int]


class MediaName(BaseConverter):
    """URL converter for the name of a file in the media folder."""

    regex = r"[0-9a-f]{32}(?:-[0-9]{1,4}\.webp|\.jpg)"


def init_app(app: Flask) -> None:
    """Set the default media folder, and register the converter for its file names."""
    app.config["MEDIA_DIR"] = app.config["MEDIA_DIR"] or str(Path(app.instance_path) / "media")
    app.url_map.converters["media"] = MediaName


def root() -> Path:
    """Return the media folder."""
    return Path(current_app.config["MEDIA_DIR"])


@blueprint.get("/<media:name>")
def show(name: str) -> Response:
    """Send a file: ``<digest>-<width>.webp``, or ``<digest>.jpg`` for previews on other sites."""
    folder = root().resolve()
    if not folder.is_dir():
        abort(404)
    mimetype = "image/jpeg" if name.endswith(".jpg") else "image/webp"
    response = send_from_directory(folder, name, mimetype=mimetype, max_age=ONE_YEAR_SECONDS)
    response.cache_control.public = True
    response.cache_control.immutable = True
    return response


def store(data: bytes, folder: Path) -> Picture:
    """Check a picture and write its files into the media folder, unless they are there already.

    Raises
    ------
    PictureError
        If the data is not a picture, or has too many pixels.
    OSError
        If the folder cannot be written to.
    """
    digest = sha256(RECIPE + data).hexdigest()[:32]
    preview = folder / f"{digest}.jpg"
    if not preview.is_file():  # written last, so all other files exist if it does
        with _at_work:
            image = _decode(data)
            folder.mkdir(parents=True, exist_ok=True)
            for width in sorted({*(w for w in WIDTHS if w < image.width), image.width}):
                _write(_scaled(image, width), folder / f"{digest}-{width}.webp", "WEBP")
            _write(_scaled(image, min(image.width, 1200)), preview, "JPEG")
    widths = sorted(int(file.stem.split("-")[1]) for file in folder.glob(f"{digest}-*.webp"))
    with Pillow.open(folder / f"{digest}-{widths[-1]}.webp") as largest:
        return Picture(digest, largest.width, largest.height, widths)


def remove(digest: str, folder: Path) -> None:
    """Remove the files of a picture."""
    for file in folder.glob(f"{digest}[-.]*"):
        with suppress(FileNotFoundError):
            file.unlink()


def _decode(data: bytes) -> Pillow.Image:
    try:
        image = Pillow.open(BytesIO(data), formats=FORMATS)
    except Exception as error:  # decoders raise all kinds of exceptions
        raise PictureError("This is not a JPEG, PNG or WebP picture.") from error
    # The header has the size, so that no pixel of an oversized picture is decoded.
    limit = MAX_PIXELS[image.format or "PNG"]
    if image.width * image.height > limit or max(image.size) > MAX_SIDE:
        raise PictureError(
            f"This picture has {image.width} by {image.height} pixels. The limit is "
            f"{limit // 1_000_000} million pixels, and {MAX_SIDE} per side."
        )
    try:
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        profile = image.info.get("icc_profile")
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        if image.mode not in ("RGB", "RGBA", "CMYK"):
            image = image.convert("RGBA" if has_alpha else "RGB")
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        image = ImageOps.exif_transpose(image)
        return _in_srgb(image, profile)
    except Exception as error:  # as above
        raise PictureError("This picture is damaged.") from error


def _in_srgb(image: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    """Convert to sRGB, which browsers assume for files without a profile."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        # Ignore a profile that is broken or does not match the pixel format.
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            own = ImageCms.ImageCmsProfile(BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, own, srgb, outputMode=mode)
            if converted is not None:
                return converted
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Pillow.Image, width: int) -> Pillow.Image:
    height = max(1, round(image.height * width / image.width))
    return (
        image if width == image.width else image.resize((width, height), Pillow.Resampling.LANCZOS)
    )


def _write(image: Pillow.Image, target: Path, kind: str) -> None:
    """Write a file atomically, with the pixels and no metadata."""
    clean = Pillow.new("RGB", image.size, "white") if kind == "JPEG" else image.copy()
    if kind == "JPEG":
        clean.paste(image, mask=image if image.mode == "RGBA" else None)
    clean.info.clear()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            clean.save(file, kind, quality=QUALITY)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
