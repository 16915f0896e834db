"""The Model Context Protocol: the hub's tools for agents, over HTTP at `/mcp` and over stdio."""
