// EdgeCoreTests.
