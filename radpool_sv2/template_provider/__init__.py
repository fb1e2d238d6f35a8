"""Offers the templates of any source to others, by the Template Distribution Protocol."""
