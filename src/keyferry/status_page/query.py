"""The filters in the address of a page. [pure]

Source: docs/operations/status-page.md#filters
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct

from keyferry.records import replace
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.status_page.workloads import Workload

REFRESH_SECONDS = 30
"""Between two loads of a page that refreshes itself."""
_MAX_TEXT = 253
_MAX_PAGE = 1_000_000
_MAX_FIELDS = 50


class Query(Struct, frozen=True):
    """What a page is to show. Texts are "" for everything.

    Attributes:
        namespace: only this one.
        class_name: only this SecretProviderClass.
        state: only this one; None for all.
        vault: only workloads and processes that use it.
        text: only workloads that contain it, without regard to case.
        page: number of the page of a long table, from 1.
        refreshes: whether the page loads itself again.
    """

    namespace: str = ""
    class_name: str = ""
    state: State | None = None
    vault: str = ""
    text: str = ""
    page: int = 1
    refreshes: bool = False

    def changed(self, **fields: Any) -> Query:
        """Return the query with other fields, for the first page of a table."""
        return replace(self, **{"page": 1, **fields})

    def has_filter(self) -> bool:
        """Return whether not everything is shown."""
        return bool(self.namespace or self.class_name or self.state or self.vault or self.text)

    def url(self, path: str) -> str:
        """Return the address of a page with these filters."""
        pairs = [
            (_NAMESPACE, self.namespace),
            (_CLASS, self.class_name),
            (_STATE, self.state.value if self.state else ""),
            (_VAULT, self.vault),
            (_TEXT, self.text),
            (_PAGE, str(self.page) if self.page > 1 else ""),
            (_REFRESH, str(REFRESH_SECONDS) if self.refreshes else ""),
        ]
        written = urlencode([(name, value) for name, value in pairs if value])
        return f"{path}?{written}" if written else path

    def selects(self, workload: Workload) -> bool:
        """Return whether the filters select a workload."""
        return (
            self.namespace in ("", workload.namespace)
            and self.class_name in ("", workload.class_name)
            and self.state in (None, workload.state)
            and (not self.vault or self.vault in workload.vaults)
            and (not self.text or self._finds(workload))
        )

    def _finds(self, workload: Workload) -> bool:
        wanted = self.text.casefold()
        return any(wanted in text.casefold() for text in _texts(workload))


_NAMESPACE, _CLASS, _STATE, _VAULT, _TEXT = "namespace", "class", "state", "vault", "q"
_PAGE, _REFRESH = "page", "refresh"


def parse_query(text: str) -> Query:
    """Return the query of an address; what is invalid or unknown has no effect.

    Args:
        text: the part after `?`.
    """
    try:
        pairs = parse_qsl(text, max_num_fields=_MAX_FIELDS, errors="replace")
    except ValueError:
        return Query()
    found = {name: value.strip()[:_MAX_TEXT] for name, value in pairs}
    page = found.get(_PAGE, "")
    return Query(
        namespace=found.get(_NAMESPACE, ""),
        class_name=found.get(_CLASS, ""),
        state=_state(found.get(_STATE, "")),
        vault=found.get(_VAULT, ""),
        text=found.get(_TEXT, ""),
        page=_page(page),
        refreshes=found.get(_REFRESH, "") not in ("", "0", "off"),
    )


def _state(text: str) -> State | None:
    try:
        return State(text)
    except ValueError:
        return None


def _page(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 8):
        return 1
    return min(max(int(text), 1), _MAX_PAGE)


def _texts(workload: Workload) -> Iterator[str]:
    yield from (workload.name, workload.namespace, workload.class_name, workload.node)
    yield workload.problem
    for item in workload.items:
        yield from (item.id, item.version)
