"""For colcon: ament's index, the launch file and the parameters beside the Python package."""

from setuptools import setup

NAME = "edgeseg_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/edgeseg.launch.py"]),
        (f"share/{NAME}/config", ["config/edgeseg.yaml"]),
    ],
    install_requires=["setuptools", "edgeseg"],
    entry_points={"console_scripts": [f"edgeseg_node = {NAME}.main:one", f"edgeseg_nodes = {NAME}.main:several"]},
)
