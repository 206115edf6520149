"""Where shards are made: in this process, or on Ray. Never what is in them."""
