"""Numbers about many runs: fronts, areas, paths, tests, seeds, and how far the metrics themselves can be trusted."""
