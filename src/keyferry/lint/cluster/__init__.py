"""Checks of `keyferry lint --cluster`: objects of a cluster, and the installation in it."""
