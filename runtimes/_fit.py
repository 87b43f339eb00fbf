"""From a camera's frame to the engine's, and the answer back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.boxes import Detections
from edgeseg.frames import Frame, check, enlarged, letterbox_frame, to_rgb
from edgeseg.manifest import Manifest
from edgeseg.spec import Preprocess


class Fit:
    """Frames as ``manifest``'s engine takes them. Detectors see undistorted frames, other networks stretched ones."""

    def __init__(self, manifest: Manifest) -> None:
        self.size = manifest.frame
        self._boxed = manifest.model.task == "detection"
        mean = manifest.preprocess.mean
        self._fill = mean[::-1] if manifest.preprocess.order == "BGR" else mean

    def frame(self, frame: Any, encoding: str, resize: bool) -> tuple[Frame, tuple[int, int]]:
        """The engine's frame, RGB uint8 H×W×3, and the (height, width) of the camera's. It is the camera's own memory
        where encoding and size are the engine's.

        Raises:
            InputError: a frame of another dtype, shape or encoding; of another size, unless ``resize``.
        """
        own = check(frame, encoding, None if resize else self.size)
        if own == self.size:
            return to_rgb(frame, encoding), own
        if self._boxed:
            return letterbox_frame(to_rgb(frame, encoding), self.size, self._fill)[0], own
        return to_rgb(frame, encoding, self.size), own

    def labels(self, labels: NDArray[np.uint8], own: tuple[int, int], out: Frame | None) -> NDArray[np.uint8]:
        """The engine's ``labels`` at the camera's size; in ``out`` where that is given."""
        if own != self.size:
            return enlarged(labels, own, out)
        if out is None:
            return labels
        if not np.may_share_memory(out, labels):  # the engine has not written there
            out[...] = labels
        return out

    def boxes(self, found: Detections, own: tuple[int, int]) -> Detections:
        """The engine's boxes in the camera's pixels."""
        if own == self.size:
            return found
        inner = Preprocess(self.size, letterbox=True).fitted(own)
        height, width = own
        scale = np.array([inner[1] / width, inner[0] / height] * 2, np.float32)
        boxes = np.clip(found.boxes / scale, 0, np.array([width, height, width, height], np.float32))
        return replace(found, boxes=boxes)
