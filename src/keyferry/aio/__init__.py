"""Asyncio building blocks: clock, worker threads, work queue, single flight."""
