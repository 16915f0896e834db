"""Pages of training. What may happen to a job is decided in `training.queue`."""
