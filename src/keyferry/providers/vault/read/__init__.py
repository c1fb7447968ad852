"""Reading secrets and rendering them."""
