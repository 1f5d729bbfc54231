"""What several features need, and the one way to run a user's function."""
