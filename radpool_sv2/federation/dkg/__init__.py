"""Generates keys that no member holds alone, over the broadcast, with certified success."""
