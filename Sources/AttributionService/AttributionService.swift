// AttributionService: see docs/architecture.md.
