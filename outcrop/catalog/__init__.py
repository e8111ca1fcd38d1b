"""The foundation models: rows of models.toml and what follows from them."""
