"""The data set that ships with the hub: requests in plain English → one calendar entry as JSON."""
