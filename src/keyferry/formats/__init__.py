"""Text and binary formats: JSON and values as Go reads them, YAML, paths, certificates. [pure]"""
