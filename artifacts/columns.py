"""Every column name and identifier type of the tables, once.

External identifiers (``user_id``, ``item_id``) are the strings of the user's dump.
Internal ones (``user_index``, ``item_index``) are dense integers: users ``0..|U|-1``;
items ``1..|V|`` grouped by domain, with 0 kept for padding (DESIGN, decision 5).
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

CLUSTER = "cluster"
KEY = "key"
REASON = "reason"
RANK = "rank"
SCORE = "score"
