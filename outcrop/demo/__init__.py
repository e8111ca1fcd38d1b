"""The demo: the guide's flow from a dataset to a custom model that beats its base, through plain boto3."""
