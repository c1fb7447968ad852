"""Formats and files: JSON and values of Go, YAML, paths, certificates, private files. [pure]"""
