"""Flag tables and parsers of the commands."""
