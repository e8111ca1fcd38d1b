"""Which IAM action an operation is, and on which resource: one literal table a service."""
