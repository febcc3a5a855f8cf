"""From files of any shop to events and items: readers, forms, columns, sieve, splits, presets."""
