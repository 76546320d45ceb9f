"""Random networks, inputs and files: what tests, regression, fault injection and fuzzing draw."""
