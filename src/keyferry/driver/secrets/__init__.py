"""Kubernetes Secrets made from volumes."""
