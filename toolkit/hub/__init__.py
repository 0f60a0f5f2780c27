"""Push, publish, verify; `space` is the page, `local` a Hub in a folder."""
