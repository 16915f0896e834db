"""What training knows about the machine: heat, battery, memory pressure, processes, neighbours."""
