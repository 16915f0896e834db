"""From the web process to the engine: a request is started, measured, logged and streamed."""
