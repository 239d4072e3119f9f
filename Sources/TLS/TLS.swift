// TLS: see docs/architecture.md.
