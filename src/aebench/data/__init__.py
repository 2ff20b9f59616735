"""Images: where they come from, and what a run sees of them."""
