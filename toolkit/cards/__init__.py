"""Facts in, a README.md out: cards, plots, and the page that previews them."""
