"""Parameters at the limits of what is accepted, which cost the worker much CPU time."""

from __future__ import annotations

from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry


async def test_costly_classes_do_not_end_the_worker_for_others(arena: Arena) -> None:
    """Parameters and responses at the limits of what is accepted, from many Pods at once."""
    nested = "[" * 60 + "]" * 60
    many = [entry(f"f{n}", f"value/{n}", "value", secretArgs={"a": n}) for n in range(1600)]
    whole = [entry(f"f{n}", f"bytes/900000/{n}") for n in range(3)]
    arena.attacker.put_class("many", *many)
    arena.attacker.put_class("whole", *whole)
    arena.attacker.put_class("text", parameters={"objects": "- {a: b}\n" * 100_000})
    arena.attacker.put_class("aliases", parameters={"objects": aliases()})
    arena.attacker.put_class("nested", parameters={"objects": f"- objectName: {nested}\n" * 150})
    arena.attacker.put_class("spaces", parameters={"objects": " " * 900_000 + "- a"})
    arena.attacker.put_class("quotes", parameters={"objects": "- '" + "''" * 400_000 + "'"})
    names = ("many", "whole", "text", "aliases", "nested", "spaces", "quotes")
    volumes = [arena.attacker.pod(name) for name in names for _ in range(3)]
    async with arena.attack():
        await arena.publish_repeatedly(volumes, seconds=5)


def aliases() -> str:
    """Return YAML whose aliases would expand to a large document."""
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11)]
    return "\n".join(lines)
