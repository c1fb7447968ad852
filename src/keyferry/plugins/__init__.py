"""The providers, built in or behind a socket, as the driver and the sync controller use them."""
