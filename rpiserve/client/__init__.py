"""What talks to a daemon, or to a service on the bus, from outside."""
