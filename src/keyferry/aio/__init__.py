"""Asyncio building blocks: clock, tasks, threads, backoff, work queue, single flight."""
