"""A company of its own under the same manager: its queues, actors, services and monitors. See README.md."""
