"""The engine process: the models in memory and the one thread that computes with them.

It knows neither the database nor HTTP. Paths come relative to storage and are checked, events
go out as JSON lines (`inference.protocol`).
"""
