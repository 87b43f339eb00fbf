"""The reference networks: a public file in this folder is a network. Nothing here knows a target."""
