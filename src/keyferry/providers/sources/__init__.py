"""The sources of a mount: each is one vault, and one identity that reads it."""
