"""What a mount of this provider consists of, for `keyferry doctor`."""
