// Schema: see docs/architecture.md.
