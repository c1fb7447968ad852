"""The economy of vault calls: nobody asks a vault for what somebody of the same identity holds.

`keyferry.economy.hub` is the way in; docs/concepts/caching-and-rate-limiting.md says how it works
and how to tune it.
"""
