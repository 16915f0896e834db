"""What training knows of the machine: heat, battery, pressure, processes, and its neighbours."""
