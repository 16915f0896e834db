"""The hub's processes: started, supervised and stopped; one of each per storage folder."""
