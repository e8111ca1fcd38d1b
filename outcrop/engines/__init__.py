"""The engine process: one base model and its adapters behind OpenAI HTTP verbs."""
