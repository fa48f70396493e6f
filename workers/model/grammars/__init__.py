"""What an answer must follow, as a mask of the tokens that may come next."""
