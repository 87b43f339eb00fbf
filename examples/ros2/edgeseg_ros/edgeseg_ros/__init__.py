"""An edgeseg artifact as a ROS 2 node."""
