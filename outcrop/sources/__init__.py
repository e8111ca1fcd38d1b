"""Weights: what a person may name, how it comes here, and what its files say before anything is loaded."""
