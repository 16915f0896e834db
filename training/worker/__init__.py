"""The worker process: runs each due job in a child process, and recovers jobs whose child died."""
