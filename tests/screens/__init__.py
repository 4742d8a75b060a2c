"""`.venv/bin/python -m tests.screens [NAME …]`: the pictures of docs/console.md, of a stack that is alive."""
