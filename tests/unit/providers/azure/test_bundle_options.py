"""keyferry.providers.azure.params: the class has the word before the flags."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.params import BundleOptions, bundle_options


@pytest.mark.parametrize(
    ("parameters", "defaults", "options"),
    [
        ({}, BundleOptions(), BundleOptions(ordered_chain=True, separate_files=False)),
        (
            {},
            BundleOptions(ordered_chain=False, separate_files=True),
            BundleOptions(ordered_chain=False, separate_files=True),
        ),
        (
            {"constructPEMChain": " false ", "writeCertAndKeyInSeparateFiles": "T"},
            BundleOptions(),
            BundleOptions(ordered_chain=False, separate_files=True),
        ),
        (
            {"constructPEMChain": "1", "writeCertAndKeyInSeparateFiles": "FALSE"},
            BundleOptions(ordered_chain=False, separate_files=True),
            BundleOptions(ordered_chain=True, separate_files=False),
        ),
    ],
)
def test_parameters_override_flags(
    parameters: dict[str, str], defaults: BundleOptions, options: BundleOptions
) -> None:
    """The flags are the defaults."""
    assert options == bundle_options(parameters, defaults)


@pytest.mark.parametrize("key", ["constructPEMChain", "writeCertAndKeyInSeparateFiles"])
@pytest.mark.parametrize("text", ["yes", "on", "tRuE", "2"])
def test_invalid_boolean_is_rejected(key: str, text: str) -> None:
    """Same grammar as the other booleans."""
    with pytest.raises(ClassInvalidError, match=f"{key} is neither true nor false: {text}"):
        bundle_options({key: text})
