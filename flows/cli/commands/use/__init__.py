"""Commands that serve and export what was trained."""
