"""Builds the OCI image of Keyferry from the packages of Debian, without a registry.

Everything in it is pinned by hash: Debian packages in requirements/image.lock, Python packages in
requirements/runtime.lock. The same inputs give the same digest.
"""
