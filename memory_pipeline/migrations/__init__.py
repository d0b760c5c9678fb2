"""The schema as plain SQL, one file a step. One that has landed is never edited: its hash is recorded."""
