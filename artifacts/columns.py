"""Column names and identifier types of all tables.

External ids (``user_id``, ``item_id``) are strings of the dump. Internal indices (``user_index``,
``item_index``) are dense integers: users ``0..|U|-1``; items ``1..|V|`` grouped by domain, 0 is
padding (DESIGN, decision 5).
"""

from typing import NewType

UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)
UserIndex = NewType("UserIndex", int)
ItemIndex = NewType("ItemIndex", int)

USER_ID = "user_id"
ITEM_ID = "item_id"
USER_INDEX = "user_index"
ITEM_INDEX = "item_index"
DOMAIN = "domain"
TIMESTAMP = "timestamp"
SPLIT = "split"

TITLE = "title"
BRAND = "brand"
CATEGORIES = "categories"
PRICE = "price"
DESCRIPTION = "description"
IMAGE = "image"
"""URL or path of an item's image; only in datasets whose dump has an image column."""

CLUSTER = "cluster"
KEY = "key"
REASON = "reason"
RANK = "rank"
SCORE = "score"
