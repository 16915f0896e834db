"""All of inference that speaks HTTP or WebSocket for our own pages and the native API."""
