"""The vault and role that an entry of `objects` names (Keyferry extension). [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, excerpt
from keyferry.providers.vault.http.server import is_valid_namespace, parse_address
from keyferry.rendering.fields import scalar_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.formats.yaml_text import YamlNode
    from keyferry.providers.vault.product import Product


@dataclass(frozen=True, slots=True)
class EntryVault:
    """The vault and role that an entry of `objects` names.

    What is empty is inherited from the SecretProviderClass.

    Attributes:
        fields: (parameter, spelling, value) of what it names. The parameter is `Address`,
            `Namespace` or `roleName`, and the spelling is that of the product.
        location: the place of the entry, for messages.
    """

    fields: tuple[tuple[str, str, str], ...] = ()
    location: str = field(default="", compare=False)

    @property
    def is_inherited(self) -> bool:
        """Whether the entry names nothing."""
        return not self.fields

    def spelling(self, parameter: str) -> str:
        """Return how the entry spells a parameter; "" if it does not name it."""
        return next((spelling for name, spelling, _ in self.fields if name == parameter), "")

    def applied_to(self, parameters: Mapping[str, str], product: Product) -> Mapping[str, str]:
        """Return the parameters of a SecretProviderClass, overridden by what the entry names."""
        if not self.fields:
            return parameters
        changed = dict(parameters)
        for name, spelling, value in self.fields:
            for other in spellings(name, product):
                changed.pop(other, None)
            changed[spelling] = value
        return changed


INHERITED = EntryVault()
ADDRESS, NAMESPACE, ROLE = "Address", "Namespace", "roleName"


def spellings(parameter: str, product: Product) -> Sequence[str]:
    """Return the spellings of `ADDRESS`, `NAMESPACE` or `ROLE`, in order of precedence."""
    return product.role_keys if parameter == ROLE else product.spellings(parameter)


def parse_entry_vault(
    fields: Mapping[str, YamlNode], product: Product, location: str
) -> EntryVault:
    """Return the vault and role that an entry of `objects` names.

    Args:
        fields: of the entry.
        product: product that defines the spellings.
        location: the place of the entry, for messages.

    Raises:
        ClassInvalidError: a field is malformed.
    """
    named = []
    for parameter in (ADDRESS, NAMESPACE, ROLE):
        values = ((key, scalar_text(fields, key)) for key in spellings(parameter, product))
        given = [(key, text.strip()) for key, text in values if text and text.strip()]
        if len(given) > 1:
            keys = " and ".join(key for key, _ in given)
            raise ClassInvalidError(f"{keys} are set", f"Keep only {given[0][0]}.")
        named += [(parameter, key, text) for key, text in given]
    for parameter, key, text in named:
        if parameter == ADDRESS:
            try:
                parse_address(text)
            except ValueError as error:
                remedy = "Set it to an address such as https://vault.example.com:8200."
                raise ClassInvalidError(f"{key}: the address {error}", remedy) from None
        if parameter == NAMESPACE and not is_valid_namespace(text):
            problem = f"{key} '{excerpt(text)}' is not a valid path of a namespace"
            remedy = f"Write the path as `{product.command} namespace list` shows it."
            raise ClassInvalidError(problem, remedy)
    return EntryVault(tuple(named), location)
