"""Kernels of our own in C++, compiled where they are first used; whoever uses them does without where they are not."""
