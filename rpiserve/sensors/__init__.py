"""Polling: handlers in motion, and ready-made readings."""
