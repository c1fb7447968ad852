"""Refreshing volumes without kubelet."""
