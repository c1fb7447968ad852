"""Requests to vaults: cache, single flight, rate limit, circuit breaker, retries. [pure]

`fetcher` is the entry point. docs/concepts/caching-and-rate-limiting.md explains the behavior.
"""
