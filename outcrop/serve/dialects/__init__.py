"""How each family of models spells a question and its answer: one file a family."""
