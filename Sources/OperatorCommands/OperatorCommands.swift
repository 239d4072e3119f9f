// OperatorCommands: see docs/architecture.md.
