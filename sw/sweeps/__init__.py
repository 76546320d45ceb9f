"""Parts of `spiketicket find sweep`: cells of the grid, pools that run them, table, plots."""
