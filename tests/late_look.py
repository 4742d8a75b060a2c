"""For `bin/worker --modules …,tests.late_look`: its first look at its memory comes late enough to have work in hand."""

from app.workers import guards

guards.MEMORY_LOOK_SECONDS = 20.0
