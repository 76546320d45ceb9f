"""Pictures of a run, a ladder and an analysis."""
