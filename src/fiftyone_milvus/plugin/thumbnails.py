"""Small pictures of samples and patches, for the panel."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import fiftyone as fo
import fiftyone.core.media as fom
from PIL import Image, ImageOps

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
            if label is not None:
                image = _cut_out(image, label)
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


def _cut_out(image: Any, label: Any) -> Any:
    x, y, width, height = _box(label)
    size = image.size
    left, top = max(0, int(x * size[0])), max(0, int(y * size[1]))
    right = min(size[0], max(left + 1, round((x + width) * size[0])))
    bottom = min(size[1], max(top + 1, round((y + height) * size[1])))
    return image.crop((left, top, right, bottom))


def _box(label: Any) -> tuple[float, float, float, float]:
    if isinstance(label, fo.Detection):
        return tuple(label.bounding_box)
    points = [point for shape in label.points for point in shape]
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
