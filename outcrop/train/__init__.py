"""The training child: a directory in, weights and metrics out."""
