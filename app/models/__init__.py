"""What the database holds: the tables and their states."""
