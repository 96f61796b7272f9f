"""What the engine is compared with: the common way, a hand-written lower bound, and the rows both are given."""
