"""Volumes of this node: mounts, files, table."""
