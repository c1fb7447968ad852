"""Resilience of vault calls: cache, single flight, rate limit, circuit breaker, retry. [pure]

`fetcher` is the entry point; docs/concepts/caching-and-rate-limiting.md explains the behaviour.
"""
