"""Asyncio building blocks: clock, tasks, threads, jobs, backoff, work queue, single flight."""
