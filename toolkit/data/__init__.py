"""Sources to a clean, masked, split and validated dataset folder."""
