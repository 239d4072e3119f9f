// EdgeServicesTests.
