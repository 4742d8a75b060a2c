"""Checks of users' targets: what is asked, what came back, what is told, what is kept."""
