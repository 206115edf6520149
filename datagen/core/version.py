"""Versions of installed packages."""

from importlib import metadata


def package_version(package: str = "datagen") -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
