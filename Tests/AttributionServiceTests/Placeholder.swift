// AttributionServiceTests.
