"""What an operator is woken for: one table of alerts, and which of them stand now."""
