"""Objects: s3:// in and out for children, and the embedded S3 on disk."""
