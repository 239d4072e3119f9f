// GeoIP: see docs/architecture.md.
