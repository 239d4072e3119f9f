// AdapterTests.
