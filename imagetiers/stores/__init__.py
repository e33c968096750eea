"""Objects by name, in a folder or a bucket, with Google Cloud Storage's generations."""
