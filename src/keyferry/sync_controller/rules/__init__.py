"""What the controller decides and says, without I/O."""
