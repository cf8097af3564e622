"""Files that are written completely or not at all, and models saved in them."""
