"""How stages run: identity, units, progress, plan and provenance."""
