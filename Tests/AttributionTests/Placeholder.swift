// AttributionTests.
