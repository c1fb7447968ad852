"""The economy of vault calls: nobody asks a vault for what somebody of the same identity holds.

`fetcher` is the way in; docs/fetch-economy.md says how it works and how to tune it.
"""
