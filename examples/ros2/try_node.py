"""Two nodes in one process with a camera and a subscriber: ``python try_node.py ARTIFACT`` (a segmentation artifact).

Needs rclpy and sensor_msgs, without which it says so and ends; diagnostics are looked at where diagnostic_msgs is
there. Exit status 1 where a label image is missing, or is not what the engine says of its frame.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

if missing := [name for name in ("rclpy", "sensor_msgs") if importlib.util.find_spec(name) is None]:
    print(f"skipped: {' and '.join(missing)} not installed, see README.md")
    sys.exit(0)

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from edgeseg.datasets import open_dataset
from edgeseg.runtimes import open_artifact

sys.path.insert(0, str(Path(__file__).parent / "edgeseg_ros"))
from edgeseg_ros.messages import to_frame, to_image
from edgeseg_ros.node import EdgesegNode

NAMES = ("front", "rear")


def main(artifact: str, count: int = 8) -> int:
    rclpy.init()
    parameters = [Parameter("artifact", value=artifact), Parameter("diagnostics_seconds", value=0.5)]
    nodes: list[Any] = [EdgesegNode(name, parameter_overrides=parameters) for name in NAMES]
    camera = Node("camera")
    images = camera.create_publisher(Image, "image", qos_profile_sensor_data)
    labels: dict[str, list[Any]] = {name: [] for name in NAMES}
    overlays: list[Any] = []
    states: set[str] = set()
    for name in NAMES:
        camera.create_subscription(Image, f"{name}/labels", labels[name].append, 10)
        camera.create_subscription(Image, f"{name}/overlay", overlays.append, 10)
    diagnosed = importlib.util.find_spec("diagnostic_msgs") is not None
    if diagnosed:
        from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

        def look(array: Any) -> None:
            states.update(s.name for s in array.status if s.level == DiagnosticStatus.OK)

        camera.create_subscription(DiagnosticArray, "/diagnostics", look, 10)
    executor = SingleThreadedExecutor()
    for node in (*nodes, camera):
        executor.add_node(node)
    sent: dict[int, Any] = {}
    with open_artifact(artifact) as engine:
        height, width = engine.manifest.frame
        data = open_dataset(f"streets:{count}@{height}x{width}:val")
        for i in range(count):
            message = shot(data[i].frame, i)
            sent[i + 1] = engine.segment(data[i].frame)
            until = time.monotonic() + 20
            while any(i + 1 not in stamps(got) for got in labels.values()) and time.monotonic() < until:
                images.publish(message)
                for _ in range(10):
                    executor.spin_once(timeout_sec=0.05)
    until = time.monotonic() + 5
    while diagnosed and len(states) < len(NAMES) and time.monotonic() < until:
        executor.spin_once(timeout_sec=0.1)
    wrong, lost = 0, 0
    for name, got in labels.items():
        lost += len(set(sent) - stamps(got))
        for message in got:
            frame, encoding = to_frame(message)
            wrong += encoding != "mono8" or message.header.frame_id != "camera"
            wrong += not np.array_equal(frame, sent[message.header.stamp.sec])
        print(f"{name}: {len(stamps(got))} of {count} images answered in {len(got)} messages")
    silent = diagnosed and len(states) < len(NAMES)
    print(f"{wrong} wrong, {len(overlays)} overlays, diagnostics: {sorted(states) if diagnosed else 'not installed'}")
    for node in (*nodes, camera):
        node.destroy_node()
    rclpy.shutdown()
    return int(bool(wrong) or bool(lost) or not overlays or silent)


def shot(frame: Any, i: int) -> Any:
    """``frame`` as the image of second ``i`` + 1; each other one as a camera with BGR and padded rows has it."""
    if i % 2:
        padded = np.pad(frame[..., ::-1], ((0, 0), (0, 5), (0, 0)))
        message = to_image(np.ascontiguousarray(padded), "bgr8", Image().header, Image)
        message.width = frame.shape[1]
    else:
        message = to_image(frame, "rgb8", Image().header, Image)
    message.header.stamp.sec, message.header.frame_id = i + 1, "camera"
    return message


def stamps(messages: list[Any]) -> set[int]:
    return {message.header.stamp.sec for message in messages}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
