"""The log: which events it has, what a line of it looks like, and where the lines go.

A line is for a person, or an object of JSON, or for journald. Whatever it is, secrets are taken out of it, and nothing
that somebody else has written can end it and begin another.
"""
