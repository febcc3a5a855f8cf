"""Item tables of a real dump without a language model: its texts, embedded by hashed words."""

import numpy as np

from artifacts.kinds.dataset import Dataset
from model.data.tables import ItemTables
from prompts.render import Language
from tasks.embed import item_texts
from tasks.llm.answer_all import PROMPT
from tasks.llm.providers.dummy_endpoint import embed_texts
from tasks.project import ProjectConfig, project_vectors


def text_tables(data: Dataset) -> ItemTables:
    """Returns what the stages embed and project would make of a dataset with the dummy endpoint."""
    texts = item_texts(data.items, Language.ENGLISH)[PROMPT].to_list()
    vectors = np.vstack([np.zeros((1, 384), np.float32), embed_texts(texts)])
    is_embedded = np.array([False, *map(bool, texts)])
    made = project_vectors(vectors, is_embedded, data.domains, data.domain_starts, ProjectConfig())
    return ItemTables(made.global_table, made.local_table)
