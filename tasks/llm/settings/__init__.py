"""Which endpoint answers, at what price and within which budget."""
