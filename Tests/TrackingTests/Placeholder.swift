// TrackingTests.
