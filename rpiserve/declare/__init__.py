"""What an app can declare, a file for each kind of thing."""
