"""Contracts that every room shares: errors, recipes, folders and manifests, names, the Hub client."""
