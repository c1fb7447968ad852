"""SQLite storage of the emulator."""
