"""Keys, certificates and tokens of the emulator."""
