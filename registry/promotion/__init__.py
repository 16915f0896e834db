"""Which version a name means: aliases, the promotion rules they obey, and how a name is resolved."""
