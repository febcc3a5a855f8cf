"""The fields of a dump brought to one form each: ids, times, prices, lists, words for nothing."""
