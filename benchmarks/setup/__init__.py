"""What the benchmarks share: a hub of their own, small models, chats to send, a client that reads
streams cheaply, and clients that disconnect."""
