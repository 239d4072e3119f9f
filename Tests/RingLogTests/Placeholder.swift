// RingLogTests.
