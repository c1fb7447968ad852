"""The pages of the status page, and what they have in common."""
