// EdgeServices: see docs/architecture.md.
