"""Implements the object store with a directory of YAML files."""
