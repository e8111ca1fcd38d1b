"""Every question and change the service makes of its database, one verb a method, one file a noun."""
