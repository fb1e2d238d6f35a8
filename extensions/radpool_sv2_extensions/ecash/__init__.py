"""Carries ecash over Stratum V2: shares become work tokens, work tokens become sats.

`message` lays out the twelve messages, `server` is the pool's side. The core finds the pool's side
by entry point and imports nothing from here.

Source: `spec/05-ecash-messages.md`.
"""
