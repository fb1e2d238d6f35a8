"""Holds the job declarator: miners declare their own templates, and each is judged."""
