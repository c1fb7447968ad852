"""What the driver reports: pod statuses, conditions, events, expiry."""
