"""Dispatching the users who are due, and a queue that is longer than its locks last."""
