"""The hub's own API of generation, over HTTP and the WebSocket: requests (in) and answers (out)."""
