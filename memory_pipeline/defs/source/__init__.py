"""Where it all starts: the messages in Postgres, which other systems write and this code location observes."""
