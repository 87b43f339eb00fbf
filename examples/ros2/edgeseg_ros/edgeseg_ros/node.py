"""The node ``edgeseg``: ``image`` in; ``~/labels`` (mono8) or ``~/detections`` out, and ``~/overlay`` (rgb8).

A worker thread runs the engine on the latest image; images that come meanwhile replace each other. What it publishes
has the header of the image it belongs to.
"""

from __future__ import annotations

import threading
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from edgeseg.errors import EdgesegError, InputError
from edgeseg.frames import to_rgb
from edgeseg.overlay import draw_boxes, draw_labels
from edgeseg.runtimes import open_artifact
from edgeseg_ros.messages import to_detections, to_frame, to_image

DEFAULTS: dict[str, Any] = {
    "artifact": "", "threads": 0, "overlay": True, "score_threshold": 0.3, "queue_depth": 1, "diagnostics_seconds": 5.0
}  # fmt: skip


class EdgesegNode(Node):
    """Opens the artifact, which runs its golden self-test, before it takes images.

    Raises:
        EdgesegError: no artifact given, or one that cannot be opened; a detector without vision_msgs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("edgeseg", **options)
        self._given = {name: self.declare_parameter(name, value).value for name, value in DEFAULTS.items()}
        if not self._given["artifact"]:
            raise InputError("give the parameter 'artifact': the folder of an edgeseg artifact")
        self._engine = open_artifact(
            self._given["artifact"], threads=self._given["threads"] or None, watchdog=10.0, recover=True
        )
        self._classes = self._engine.manifest.classes
        self._detects = self._engine.manifest.model.task == "detection"
        self._messages = _vision_messages() if self._detects else None
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
        self.create_subscription(Image, "image", self._take, qos_profile_sensor_data)
        self.create_timer(float(self._given["diagnostics_seconds"]), self._tell)

    def destroy_node(self) -> None:
        with self._waiting:
            self._closing = True
            self._waiting.notify()
        self._worker.join(timeout=15.0)
        self._engine.close()
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
        text = f"{health.state}: {health.frames} frames, {health.errors} errors, {self.replaced} images replaced"
        log = self.get_logger()
        (log.info if health.state == "ready" else log.error)(text)


def _vision_messages() -> Any:
    try:
        import vision_msgs.msg
    except ImportError:
        raise InputError("a detector publishes vision_msgs/Detection2DArray: install vision_msgs") from None
    return vision_msgs.msg


def main() -> None:
    rclpy.init()
    try:
        node = EdgesegNode()
    except EdgesegError as error:
        rclpy.shutdown()
        raise SystemExit(f"error: {error}") from None
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
