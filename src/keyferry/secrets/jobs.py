"""The parse job of the driver."""

from __future__ import annotations

from keyferry.aio.jobs import ParseJob
from keyferry.secrets.secret_data import SecretDataRequest, secret_data

SECRET_DATA = ParseJob("secret-data", secret_data, SecretDataRequest, dict[str, bytes])
"""Validates and converts the data of a Secret whose type requires a format."""
