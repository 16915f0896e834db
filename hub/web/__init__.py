"""Middleware, access rules and the pages about the hub itself."""
