"""Media: from the words of a request to pixels and samples, decoded in children that may die."""
