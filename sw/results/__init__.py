"""The results page: what the papers report beside what was run here."""
