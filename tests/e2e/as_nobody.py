"""Run a Keyferry command as the user `nobody`, without any privileges.

`nobody` may not be able to read the interpreter and the source (a checkout in root's home), so all
modules are imported before the privileges are dropped.

Usage: python as_nobody.py COMMAND [arguments], as after `keyferry`
"""

from __future__ import annotations

import os
import pwd
from importlib import import_module
from pkgutil import walk_packages

import keyferry
import keyferry_devvault
from keyferry.cli import main

_ON_FIRST_USE = (
    "aiohttp",
    "concurrent.futures.thread",
    "encodings.idna",
    "encodings.utf_8_sig",
    "jmespath",
    "ssl",
)
"""Modules that libraries import only on first use."""


def import_everything() -> None:
    """Import all modules that a command may need."""
    for package in (keyferry, keyferry_devvault):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for name in _ON_FIRST_USE:
        import_module(name)


def become_nobody() -> None:
    """Import all modules, then drop all privileges permanently."""
    import_everything()
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


if __name__ == "__main__":
    become_nobody()
    main()
