"""Stability studies: many short runs, and what they say together about how far a potential can be trusted."""
