"""The node: ``image`` in; ``~/labels`` (mono8) or ``~/detections`` out, ``~/overlay`` (rgb8) and ``/diagnostics``.

A worker thread runs the engine on the latest image; images that come meanwhile replace each other. What it publishes
has the header of the image it belongs to.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from edgeseg.errors import EdgesegError, InputError
from edgeseg.frames import to_rgb
from edgeseg.overlay import draw_boxes, draw_labels
from edgeseg.runtimes import open_artifact
from edgeseg_ros.diagnostics import to_diagnostics
from edgeseg_ros.messages import to_detections, to_frame, to_image

DEFAULTS: dict[str, Any] = {
    "artifact": "", "threads": 0, "overlay": True, "score_threshold": 0.3, "queue_depth": 1, "reliable": False,
    "diagnostics_seconds": 5.0,
}  # fmt: skip


class EdgesegNode(Node):
    """Opens the artifact, which runs its golden self-test, before it takes images.

    Raises:
        EdgesegError: a parameter of another type or out of range; no artifact given, or one that cannot be opened; a
            detector without vision_msgs.
    """

    def __init__(self, name: str = "edgeseg", **options: Any) -> None:
        super().__init__(name, **options)
        self._given = {name: self._parameter(name, value) for name, value in DEFAULTS.items()}
        if not self._given["artifact"]:
            raise InputError("give the parameter 'artifact': the folder of an edgeseg artifact")
        if not self._given["diagnostics_seconds"] > 0:
            raise InputError(f"diagnostics_seconds must be more than 0, not {self._given['diagnostics_seconds']:g}")
        self._engine = open_artifact(
            self._given["artifact"], threads=self._given["threads"] or None, watchdog=10.0, recover=True
        )
        self._classes = self._engine.manifest.classes
        self._detects = self._engine.manifest.model.task == "detection"
        self._messages = _messages("vision_msgs") if self._detects else None
        if self._detects and self._messages is None:
            self._engine.close()
            raise InputError("a detector publishes vision_msgs/Detection2DArray: install vision_msgs")
        depth = max(1, int(self._given["queue_depth"]))
        self._answers = (
            self.create_publisher(self._messages.Detection2DArray, "~/detections", depth)
            if self._messages
            else self.create_publisher(Image, "~/labels", depth)
        )
        self._overlays = self.create_publisher(Image, "~/overlay", depth) if self._given["overlay"] else None
        self.replaced = 0
        self._latest: Image | None = None
        self._waiting, self._closing = threading.Condition(), False
        self._worker = threading.Thread(target=self._work, name="edgeseg", daemon=True)
        self._worker.start()
        trust = ReliabilityPolicy.RELIABLE if self._given["reliable"] else ReliabilityPolicy.BEST_EFFORT
        self.create_subscription(Image, "image", self._take, QoSProfile(depth=depth, reliability=trust))
        self._diagnostic = _messages("diagnostic_msgs")
        self._diagnostics = (
            self.create_publisher(self._diagnostic.DiagnosticArray, "/diagnostics", 10) if self._diagnostic else None
        )
        self.create_timer(float(self._given["diagnostics_seconds"]), self._tell)

    def _parameter(self, name: str, default: Any) -> Any:
        """Its value, of the default's type; a whole number will do for a float. ROS itself would end in a traceback."""
        value = self.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
        if isinstance(default, float) and type(value) is int:
            return float(value)
        if type(value) is not type(default):
            raise InputError(f"parameter '{name}' must be of type {type(default).__name__}, not {value!r}")
        return value

    def destroy_node(self) -> None:
        with self._waiting:
            self._closing = True
            self._waiting.notify()
        self._worker.join(timeout=15.0)
        try:
            self._engine.close()
        finally:
            super().destroy_node()

    def _take(self, message: Image) -> None:
        with self._waiting:
            self.replaced += self._latest is not None
            self._latest = message
            self._waiting.notify()

    def _work(self) -> None:
        while True:
            with self._waiting:
                self._waiting.wait_for(lambda: self._closing or self._latest is not None)
                if self._closing:
                    return
                message, self._latest = self._latest, None
            try:
                self._answer(message)
            except EdgesegError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)
            except Exception as error:  # a thread that ended here would leave a node that takes images and is silent
                if not self.context.ok():  # nothing can be published any more
                    return
                self.get_logger().error(f"{type(error).__name__}: {error}", throttle_duration_sec=5.0)

    def _answer(self, message: Any) -> None:
        frame, encoding = to_frame(message)
        shown = self._overlays is not None and self._overlays.get_subscription_count() > 0
        if self._messages:
            found = self._engine.detect(frame, encoding=encoding, resize=True)
            least = float(self._given["score_threshold"])
            self._answers.publish(to_detections(found, self._classes, least, message.header, self._messages))
            drawn = draw_boxes(to_rgb(frame, encoding), found, self._classes, least) if shown else None
        else:
            labels = self._engine.segment(frame, encoding=encoding, resize=True)
            self._answers.publish(to_image(labels, "mono8", message.header, Image))
            drawn = draw_labels(to_rgb(frame, encoding), labels, self._classes) if shown else None
        if drawn is not None and self._overlays is not None:
            self._overlays.publish(to_image(drawn, "rgb8", message.header, Image))

    def _tell(self) -> None:
        health = self._engine.health()
        if self._diagnostics is not None:
            name, stamp = f"{self.get_name()}: engine", self.get_clock().now().to_msg()
            artifact = self._given["artifact"]
            self._diagnostics.publish(to_diagnostics(health, self.replaced, name, artifact, stamp, self._diagnostic))
            return
        text = f"{health.state}: {health.frames} frames, {health.errors} errors, {self.replaced} images replaced"
        log = self.get_logger()
        (log.info if health.state == "ready" else log.error)(text)


def _messages(package: str) -> Any:
    """The module of ``package``'s messages, None where it is not installed."""
    try:
        return importlib.import_module(f"{package}.msg")
    except ImportError:
        return None
