// PostgresTests.
