// EdgeServerTests.
