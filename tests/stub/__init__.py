"""A stand-in for Azure that tests and benchmarks start: https, the management API, a storage account, scoring."""
