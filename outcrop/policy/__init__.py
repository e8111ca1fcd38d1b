"""AWS policy documents: read strictly, asked quickly. Knows JSON and patterns; nothing of keys, stores or HTTP."""
