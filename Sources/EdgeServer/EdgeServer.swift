// EdgeServer: see docs/architecture.md.
