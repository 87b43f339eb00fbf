"""The ROS 2 example's messages, without ROS: stand-ins have the fields of the real ones."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeseg.boxes import Detections
from edgeseg.errors import InputError
from edgeseg.frames import ENCODINGS, to_rgb
from edgeseg.runtimes import Health
from edgeseg.spec import ClassSpec

PACKAGE = Path(__file__).parent.parent / "examples" / "ros2" / "edgeseg_ros"


def of_the_example(name: str) -> Any:
    sys.path.insert(0, str(PACKAGE))
    try:
        return importlib.import_module(f"edgeseg_ros.{name}")
    finally:
        sys.path.remove(str(PACKAGE))


@pytest.fixture(scope="module")
def messages() -> Any:
    return of_the_example("messages")


@dataclass
class Image:
    """sensor_msgs/Image."""

    header: Any = None
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: bytes = b""


@dataclass
class Detection2D:
    """vision_msgs/Detection2D, of vision_msgs 4."""

    header: Any = None
    results: list[Any] = field(default_factory=list)
    bbox: Any = field(
        default_factory=lambda: SimpleNamespace(
            center=SimpleNamespace(position=SimpleNamespace(x=0.0, y=0.0), theta=0.0), size_x=0.0, size_y=0.0
        )
    )
    id: str = ""


VISION = SimpleNamespace(
    Detection2D=Detection2D,
    Detection2DArray=lambda: SimpleNamespace(header=None, detections=[]),
    ObjectHypothesisWithPose=lambda: SimpleNamespace(hypothesis=SimpleNamespace(class_id="", score=0.0), pose=None),
)


@given(
    st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "nv12", "yuv422_yuy2"]),
    st.integers(1, 8), st.integers(1, 8), st.integers(0, 9), st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_an_image_with_padded_rows_is_the_frame_it_holds(
    messages: Any, encoding: str, half_height: int, half_width: int, padding: int, seed: int, whole_last_row: bool
) -> None:
    ours, depth = messages.ENCODINGS[encoding]
    height, width = 2 * half_height, 2 * half_width
    pixels = np.random.default_rng(seed).integers(0, 256, ENCODINGS[ours].shape(height, width), np.uint8)
    rows = pixels.reshape(pixels.shape[0], -1)
    data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    message = Image(None, height, width, encoding, 0, width * depth + padding, data)
    if padding and not whole_last_row:
        message.data = data[:-padding]
    frame, named = messages.to_frame(message)
    assert named == ours
    assert np.array_equal(frame, pixels)
    assert np.array_equal(to_rgb(frame, named), to_rgb(pixels, ours))


@pytest.mark.parametrize(
    "message",
    [
        Image(None, 4, 4, "mono16", 0, 8, bytes(32)),
        Image(None, 4, 4, "bayer_rggb8", 0, 4, bytes(16)),
        Image(None, 0, 4, "rgb8", 0, 12, b""),
        Image(None, 4, 4, "rgb8", 0, 11, bytes(48)),
        Image(None, 4, 4, "rgb8", 0, 12, bytes(47)),
        Image(None, 4, 4, "nv12", 0, 4, bytes(23)),
    ],
    ids=lambda m: f"{m.encoding} {m.height} {m.step} {len(m.data)}",
)
def test_what_is_no_frame_is_one_line(messages: Any, message: Image) -> None:
    with pytest.raises(InputError, match=message.encoding) as caught:
        messages.to_frame(message)
    assert "\n" not in str(caught.value)


def test_labels_come_back_with_the_images_header(messages: Any) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=9), frame_id="camera")
    image = messages.to_image(labels, "mono8", header, Image)
    assert (image.header, image.height, image.width, image.step) == (header, 3, 4, 4)
    assert np.array_equal(messages.to_frame(image)[0], labels)
    color = messages.to_image(np.zeros((3, 4, 3), np.uint8), "rgb8", header, Image)
    assert (color.step, len(color.data)) == (12, 36)


def test_boxes_have_centres_names_and_scores(messages: Any) -> None:
    boxes = np.array([[10, 20, 30, 60], [0, 0, 4, 4], [1, 1, 2, 2]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.5, 0.2], np.float32), np.array([1, 0, 0], np.int32), 3)
    header = SimpleNamespace(frame_id="camera")
    array = messages.to_detections(
        found, [ClassSpec("car", (1, 2, 3)), ClassSpec("bus", (4, 5, 6))], 0.3, header, VISION
    )
    assert array.header is header
    assert len(array.detections) == 2
    first = array.detections[0]
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (20, 40)
    assert (first.bbox.size_x, first.bbox.size_y) == (20, 40)
    assert first.results[0].hypothesis.class_id == "bus"
    assert first.results[0].hypothesis.score == pytest.approx(0.9)


# diagnostic_msgs; levels are bytes in Python.
DIAGNOSTIC = SimpleNamespace(
    DiagnosticArray=lambda: SimpleNamespace(header=SimpleNamespace(stamp=None), status=[]),
    DiagnosticStatus=lambda: SimpleNamespace(OK=b"\0", WARN=b"\1", ERROR=b"\2", values=[]),
    KeyValue=SimpleNamespace,
)


@pytest.mark.parametrize(
    ("state", "stuck", "last_error", "level", "message"),
    [
        ("ready", 0, None, b"\0", "ready"),
        ("ready", 1, "no answer after 2 s", b"\1", "no answer after 2 s"),
        ("failed", 0, "lost", b"\2", "lost"),
    ],
)
def test_health_is_a_diagnostic_status(
    state: str, stuck: int, last_error: str | None, level: bytes, message: str
) -> None:
    health = Health(state, 9, 2, 1, 1, 0, 0.0, stuck, 3, last_error)
    array = of_the_example("diagnostics").to_diagnostics(health, 5, "front: engine", "enet", "now", DIAGNOSTIC)
    (status,) = array.status
    assert array.header.stamp == "now"
    assert (status.name, status.hardware_id, status.level, status.message) == ("front: engine", "enet", level, message)
    values = {pair.key: pair.value for pair in status.values}
    assert (values["frames"], values["replaced"], values["last_error"]) == ("9", "5", last_error or "")


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is not None, reason="rclpy is installed: run try_node.py")
def test_without_ros_the_script_says_what_it_lacks() -> None:
    script = PACKAGE.parent / "try_node.py"
    ran = subprocess.run([sys.executable, str(script), "artifact"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("skipped: rclpy")
