"""The console over a large database: how long every page takes, and what viewers cost a running campaign."""
