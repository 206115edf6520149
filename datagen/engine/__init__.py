"""How a stage runs: identity, units, progress, plan, provenance. No stage is defined here."""
