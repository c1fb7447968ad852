"""Publishing and unpublishing one volume."""
