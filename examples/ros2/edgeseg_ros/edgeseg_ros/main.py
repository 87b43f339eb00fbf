"""The programs: ``edgeseg_node``, one node, and ``edgeseg_nodes NAME…``, several of them in one process."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.utilities import remove_ros_args

from edgeseg.errors import EdgesegError
from edgeseg_ros.node import EdgesegNode


def one() -> int:
    return spin(["edgeseg"])


def several() -> int:
    names = remove_ros_args(sys.argv)[1:]
    if not names or len(set(names)) < len(names):
        print("error: give the nodes' names, each once: edgeseg_nodes front rear --ros-args …", file=sys.stderr)
        return 2
    return spin(names)


def spin(names: Sequence[str]) -> int:
    """Nodes of ``names`` in one executor until ROS shuts down; the exit status. One thread is enough: callbacks only
    hand images on, each node's engine has its own thread."""
    rclpy.init()
    executor, nodes = SingleThreadedExecutor(), []
    try:
        for name in names:
            nodes.append(EdgesegNode(name))
            executor.add_node(nodes[-1])
        executor.spin()
    except EdgesegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
