"""One attempt at a job, in its child process: train, report progress, score, record the result."""
