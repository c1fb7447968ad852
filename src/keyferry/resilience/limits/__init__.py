"""Limits the requests to one host, fairly between tenants: queue, rate, backoff, circuits."""
