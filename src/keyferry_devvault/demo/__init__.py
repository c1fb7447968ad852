"""The demonstration: one secret from the emulator to a pod."""
