"""Options of objects and volumes that all providers share, and the files that they make."""
