"""How sharp an image is: the variance of its Laplacian."""

from __future__ import annotations

import cv2
import numpy as np

from fiftyone_milvus.curation.members import Member


def sharpness(member: Member) -> float:
    """Returns the variance of the Laplacian of the gray image, or NaN if it can't be read.

    Blur makes it smaller. It is of all pixels, at the size that the file has: compare images of the
    same scene only.
    """
    pixels = member.image()
    if pixels is None:
        return np.nan
    gray = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(gray, cv2.CV_64F).var())
