"""The operations: one file a resource family, one function an operation."""
