"""From a model and a history to scores, ranks and recommendations."""
