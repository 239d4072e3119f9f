// Configuration: see docs/architecture.md.
