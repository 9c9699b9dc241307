"""When a photo was taken, as its EXIF data says."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
from PIL import ExifTags, Image

_FORMAT = "%Y:%m:%d %H:%M:%S"


def taken(path: str) -> float:
    """Returns when a photo was taken, in seconds, or NaN if its file does not say.

    ``DateTimeOriginal`` is used, else ``DateTimeDigitized``, else ``DateTime``. EXIF has no time
    zone, so photos of different zones may be ordered wrongly by some hours.
    """
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            detail = exif.get_ifd(ExifTags.IFD.Exif)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return np.nan
    found = (
        detail.get(ExifTags.Base.DateTimeOriginal),
        detail.get(ExifTags.Base.DateTimeDigitized),
        exif.get(ExifTags.Base.DateTime),
    )
    for text in found:
        try:
            moment = datetime.strptime(str(text or "").strip("\0 "), _FORMAT)
        except ValueError:
            continue
        return moment.replace(tzinfo=timezone.utc).timestamp()
    return np.nan
