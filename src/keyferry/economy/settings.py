"""What the economy of vault calls can be told by flags. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class EconomySettings:
    """The economy of one process. All times in seconds."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """How often and how patiently one request is tried."""
    patience: float = 60.0
    """For one request with its turns and tries; kubelet gives a mount 120."""
    at_once: int = 64
    """So many requests to one vault are under way at the same time."""
