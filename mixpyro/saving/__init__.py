"""Files that are whole or not there, and models in them."""
