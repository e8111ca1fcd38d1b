"""Amazon Bedrock model customization on your own machines."""
