"""Commands about dumps and data sets."""
