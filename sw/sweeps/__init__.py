"""Parts of `python -m sw.sweep`: cells of the grid, pools that run them, table, plots."""
