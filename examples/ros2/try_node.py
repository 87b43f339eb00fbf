"""The node in one process with a publisher and a subscriber: ``python try_node.py ARTIFACT`` (a segmentation artifact).

Needs rclpy and sensor_msgs. Exit status 1 where a label image is missing, or is not what the engine says of its frame.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

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


def main(artifact: str, count: int = 8) -> int:
    rclpy.init()
    parameters = [Parameter("artifact", value=artifact), Parameter("diagnostics_seconds", value=1.0)]
    edgeseg, camera = EdgesegNode(parameter_overrides=parameters), Node("camera")
    labels: list[Any] = []
    overlays: list[Any] = []
    images = camera.create_publisher(Image, "image", qos_profile_sensor_data)
    camera.create_subscription(Image, "edgeseg/labels", labels.append, 10)
    camera.create_subscription(Image, "edgeseg/overlay", overlays.append, 10)
    executor = SingleThreadedExecutor()
    executor.add_node(edgeseg)
    executor.add_node(camera)
    sent: dict[int, Any] = {}
    with open_artifact(artifact) as engine:
        height, width = engine.manifest.frame
        data = open_dataset(f"streets:{count}@{height}x{width}:val")
        for i in range(count):
            frame = data[i].frame
            if i % 2:  # as a camera with BGR and padded rows has it
                frame = np.pad(frame[..., ::-1], ((0, 0), (0, 5), (0, 0)))
                message = to_image(np.ascontiguousarray(frame), "bgr8", Image().header, Image)
                message.width = width
            else:
                message = to_image(frame, "rgb8", Image().header, Image)
            message.header.stamp.sec, message.header.frame_id = i + 1, "camera"
            sent[i + 1] = engine.segment(data[i].frame)
            until = time.monotonic() + 20
            while len(labels) <= i and time.monotonic() < until:
                images.publish(message)
                for _ in range(10):
                    executor.spin_once(timeout_sec=0.05)
    wrong = 0
    for message in labels:
        frame, encoding = to_frame(message)
        wrong += encoding != "mono8" or message.header.frame_id != "camera"
        wrong += not np.array_equal(frame, sent[message.header.stamp.sec])
    seen = {message.header.stamp.sec for message in labels}
    print(f"{len(seen)} of {count} images answered in {len(labels)} messages, {wrong} wrong, {len(overlays)} overlays")
    edgeseg.destroy_node()
    camera.destroy_node()
    rclpy.shutdown()
    return int(bool(wrong) or len(seen) < count or not overlays)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
