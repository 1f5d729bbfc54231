"""Ready-made readings, for apps to import."""
