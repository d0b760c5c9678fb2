"""Redis: caches, queue and buffer. Ephemeral: nothing in it is the only copy of anything acknowledged as durable."""
