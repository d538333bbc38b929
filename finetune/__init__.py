"""From a released encoder to a small, fast classifier."""
