"""Normalisation of fields: ids, times, prices, lists, null words."""
