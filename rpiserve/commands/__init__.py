"""Commands: functions of the app's that clients call by name."""
