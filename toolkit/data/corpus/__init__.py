"""The embedded corpus: descriptions written for this project, CC0-1.0."""
