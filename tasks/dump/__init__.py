"""From input files to events and items: readers, formats, columns, filters, splits, presets."""
