"""Commands that make the weights which the package contains."""
