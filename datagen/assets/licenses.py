"""SPDX identifiers of assets' licenses."""

import re

UNKNOWN_LICENSE = "LicenseRef-unknown"
SPDX_PATTERN = re.compile(r"[A-Za-z0-9.+-]+")

_TEXT_LICENSES = (
    ("creativecommons.org/choose/zero", "CC0-1.0"),
    ("creativecommons.org/publicdomain/zero/1.0", "CC0-1.0"),
    ("creativecommons.org/licenses/by/3.0/us", "CC-BY-3.0-US"),
    ("creativecommons.org/licenses/by/3.0", "CC-BY-3.0"),
    ("creativecommons.org/licenses/by/4.0", "CC-BY-4.0"),
    ("creativecommons.org/licenses/by-sa/3.0", "CC-BY-SA-3.0"),
    ("creativecommons.org/licenses/by-sa/4.0", "CC-BY-SA-4.0"),
    ("gnu general public license", "GPL-2.0-or-later"),
)
"""Text that a license contains, in lower case, and its identifier; the first match counts."""

_SKETCHFAB_LICENSES = {
    "by": "CC-BY-4.0",
    "by-sa": "CC-BY-SA-4.0",
    "by-nd": "CC-BY-ND-4.0",
    "by-nc": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA-4.0",
    "by-nc-nd": "CC-BY-NC-ND-4.0",
    "cc0": "CC0-1.0",
}
"""Sketchfab's names, which Objaverse uses; all are of version 4.0."""

SKETCHFAB_SPDX = tuple(_SKETCHFAB_LICENSES.values())


def license_of_text(text: str) -> str:
    """Return the SPDX identifier of a license's text or link, or UNKNOWN_LICENSE."""
    lowered = text.lower()
    for part, spdx in _TEXT_LICENSES:
        if part in lowered:
            return spdx
    return UNKNOWN_LICENSE


def license_of_sketchfab(name: object) -> str:
    """Return the SPDX identifier of Sketchfab's name for a license, or UNKNOWN_LICENSE."""
    return _SKETCHFAB_LICENSES.get(str(name), UNKNOWN_LICENSE)
