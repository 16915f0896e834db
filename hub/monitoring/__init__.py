"""What the hub says of itself: samples, metrics, health, doctor, logs and traces."""
