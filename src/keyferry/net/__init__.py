"""HTTP client, connections, proxies and the servers of this process."""
