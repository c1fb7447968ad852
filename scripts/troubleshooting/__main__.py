"""Write docs/operations/troubleshooting.md.

Run: .venv/bin/python -m scripts.troubleshooting > docs/operations/troubleshooting.md
"""

from __future__ import annotations

import sys

from scripts.troubleshooting.page import page

if __name__ == "__main__":
    sys.stdout.write(page())
