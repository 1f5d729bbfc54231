"""What a daemon answers over HTTP, a file for each subject."""
