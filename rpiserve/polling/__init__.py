"""What runs by itself: sensors, schedules and threads."""
