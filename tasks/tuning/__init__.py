"""Search of preset fields on a data set (`llm4cdsr tune`)."""
