"""Messages: the bus, the actions and listeners of this service, and calls of others'."""
