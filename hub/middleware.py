"""Who may ask: a same-origin rule for unsafe requests, and tokens beyond loopback."""
