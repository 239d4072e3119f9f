// EdgeCore: see docs/architecture.md.
