"""Monitoring the hub: samples, metrics, health, doctor, logs and traces."""
