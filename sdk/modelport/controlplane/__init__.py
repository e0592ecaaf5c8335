"""The resource manager: what Azure Resource Manager and Azure ML's service do with endpoints, as a library."""
