"""The hub's processes: started and supervised, one of each a storage, none left behind."""
