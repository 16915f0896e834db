"""What agents and client libraries need of a version: asked over every API, and judged."""
