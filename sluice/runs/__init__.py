"""`sluice run`: one manifest through a stack of its own, stopped and started again at will."""
