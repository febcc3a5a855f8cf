"""Commands that serve and export releases."""
