"""Small pictures of samples and patches, for the panel."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import fiftyone.core.media as fom
from PIL import Image, ImageOps

from fiftyone_milvus.curation.members import box_of
from fiftyone_milvus.dataset.crops import pixels_in

SIDE = 128
"""The longest side, in pixels."""


def thumbnail(filepath: str, media_type: str, label: Any = None) -> str | None:
    """Returns a picture as a data URI, or None if the file can't be shown.

    Args:
        filepath: of an image or a video
        media_type: of the sample
        label: the label whose part of the image is shown, or None
    """
    try:
        image = _first_frame(filepath) if media_type == fom.VIDEO else Image.open(filepath)
        with image:
            image = ImageOps.exif_transpose(image).convert("RGB")
            if (box := None if label is None else box_of(label)) is not None:
                image = image.crop(pixels_in(box, *image.size))
            image.thumbnail((SIDE, SIDE))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
    except (OSError, ValueError, cv2.error):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _first_frame(filepath: str) -> Any:
    video = cv2.VideoCapture(filepath)
    try:
        found, frame = video.read()
    finally:
        video.release()
    if not found:
        raise ValueError(f"No frame in {filepath}")
    return Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
