"""What the child process of one attempt does: train, report progress, score, record the result."""
