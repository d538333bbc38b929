"""From a released encoder to a small, quick classifier."""
