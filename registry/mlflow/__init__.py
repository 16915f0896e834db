"""What MLflow is sent, and how it gets there: entries are recorded in the outbox and delivered
by a process of their own."""
