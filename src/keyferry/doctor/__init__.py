"""`keyferry doctor`: finds the stage of a mount that fails, with the code of mounts."""
