"""One daemon: its parts put together, its process and its options."""
