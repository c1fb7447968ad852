"""Opens one connection as a request would, to show what is on the way: for `keyferry doctor`."""
