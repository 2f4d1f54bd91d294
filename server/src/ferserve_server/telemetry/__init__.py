"""Records and exports metrics and logs."""
