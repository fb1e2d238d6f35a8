"""Makes every member's stream the same at every member."""
