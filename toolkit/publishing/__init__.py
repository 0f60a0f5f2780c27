"""From a folder to a repository of the Hub: what goes up, what must not, and one guarded commit."""
