"""Between ROS messages and arrays, without ROS: message classes are given, their fields are those of sensor_msgs/Image
and vision_msgs/Detection2DArray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg.boxes import Detections
from edgeseg.errors import InputError
from edgeseg.spec import ClassSpec

# sensor_msgs/image_encodings.hpp → edgeseg.frames, and bytes a pixel of a row
ENCODINGS = {
    "rgb8": ("rgb8", 3),
    "bgr8": ("bgr8", 3),
    "rgba8": ("rgba8", 4),
    "bgra8": ("bgra8", 4),
    "mono8": ("mono8", 1),
    "nv12": ("nv12", 1),
    "yuv422_yuy2": ("yuyv", 2),
}


def to_frame(message: Any) -> tuple[NDArray[np.uint8], str]:
    """The frame that a sensor_msgs/Image holds, a view of its data, and its encoding as edgeseg names it. Rows may be
    padded (``step``); bytes have no order, so ``is_bigendian`` says nothing here.

    Raises:
        InputError: an encoding that is not of 8 bits or not known, no pixels, or data too short for its sizes.
    """
    if message.encoding not in ENCODINGS:
        raise InputError(f"image encoding '{message.encoding}' is none of {', '.join(ENCODINGS)}")
    encoding, depth = ENCODINGS[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    rows = height * 3 // 2 if encoding == "nv12" else height
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or step < width * depth or len(data) < rows * step - (step - width * depth):
        raise InputError(
            f"image {message.encoding} of {height}×{width} with {step} bytes a row cannot be in {len(data)} bytes"
        )
    inner = (depth, 1) if depth > 1 else (1,)
    shape = (rows, width, depth) if depth > 1 else (rows, width)
    return np.lib.stride_tricks.as_strided(data, shape, (step, *inner), writeable=False), encoding


def to_image(pixels: NDArray[np.uint8], encoding: str, header: Any, image: Callable[[], Any]) -> Any:
    """``pixels`` uint8 H×W (mono8) or H×W×3 (rgb8) as a new message of the class ``image``, with ``header``."""
    message = image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.is_bigendian = encoding, 0
    message.step = pixels.size // pixels.shape[0]
    message.data = pixels.tobytes()
    return message


def to_detections(found: Detections, classes: Sequence[ClassSpec], least: float, header: Any, messages: Any) -> Any:
    """The objects of a score of ``least`` and over as a Detection2DArray; ``messages`` is the module vision_msgs.msg.
    A box's centre and size are in pixels; ``class_id`` is the class's name."""
    array = messages.Detection2DArray()
    array.header = header
    sure = np.flatnonzero(found.scores[: found.count] >= least)
    for box, kind, score in zip(found.boxes[sure], found.classes[sure], found.scores[sure], strict=True):
        detection, hypothesis = messages.Detection2D(), messages.ObjectHypothesisWithPose()
        detection.header = header
        x0, y0, x1, y1 = (float(v) for v in box)
        detection.bbox.center.position.x, detection.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
        detection.bbox.size_x, detection.bbox.size_y = x1 - x0, y1 - y0
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = classes[int(kind)].name, float(score)
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array
