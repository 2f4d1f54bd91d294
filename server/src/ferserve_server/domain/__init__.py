"""Words of the field: plain values, ports and errors. Standard library and numpy only."""
