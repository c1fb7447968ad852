"""Selects objects of a vault by name and tags."""
