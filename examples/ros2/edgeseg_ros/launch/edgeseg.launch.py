"""ros2 launch edgeseg_ros edgeseg.launch.py artifact:=/path/to/artifact image:=/camera/image_raw"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    artifact = ParameterValue(LaunchConfiguration("artifact"), value_type=str)  # a name of digits too
    parameters = Path(get_package_share_directory("edgeseg_ros")) / "config" / "edgeseg.yaml"
    return LaunchDescription(
        [
            DeclareLaunchArgument("artifact", description="folder of an edgeseg artifact"),
            DeclareLaunchArgument("image", default_value="/camera/image_raw", description="topic of the camera"),
            Node(
                package="edgeseg_ros",
                executable="edgeseg_node",
                name="edgeseg",
                parameters=[
                    str(parameters),
                    {"artifact": artifact},
                ],
                remappings=[("image", LaunchConfiguration("image"))],
            ),
        ]
    )
