"""The HTTP service over a published model: one process or several, a page to look at, and feedback in."""
