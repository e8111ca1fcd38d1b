"""Protocols of AWS: bytes to named parameters and back."""
