"""The embedded default: a rendered world whose truth is known, its questions, and a teacher that looks at it."""
