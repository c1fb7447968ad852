"""Logs, metrics and suppression of repeated messages."""
