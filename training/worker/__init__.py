"""The worker process: starts a child for each due job, and takes back jobs whose child died."""
