// RingLog: see docs/architecture.md.
