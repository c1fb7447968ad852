"""HTTP client, connections, proxies and servers."""
