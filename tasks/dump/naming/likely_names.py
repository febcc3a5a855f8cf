"""Suggestions for missing columns."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from artifacts import columns as col

_WORDS = {
    col.USER_ID: (
        "user userid uid customer customerid client clientid member memberid reviewer reviewerid "
        "visitor visitorid buyer buyerid shopper account accountid person personid session "
        "sessionid userno custid usernumber kunde kundennummer profileid deviceid"
    ),
    col.ITEM_ID: (
        "item itemid iid product productid sku productsku asin parentasin article articleid goods "
        "goodsid movie movieid book bookid isbn track trackid song songid business "
        "businessid content contentid listing listingid offer offerid artikel artikelnummer upc "
        "ean gtin pid videoid recipeid"
    ),
    col.DOMAIN: (
        "category department shop store channel section segment vertical market maincategory "
        "source catalog catalogue division site sparte"
    ),
    col.TIMESTAMP: (
        "time date datetime ts unixtime unixreviewtime reviewtime eventtime createdat created "
        "purchasedate purchasedat orderdate orderedat boughtat when eventdate tdat timestampms day "
        "visitdate datum zeit rateddate occurredat"
    ),
    col.TITLE: "name itemname productname producttitle label itemtitle prodname displayname titel",
}
_LEAST_ALIKE = 0.8


def likely_column(ours: str, theirs: Iterable[str]) -> str | None:
    """Returns the column of a file that likely is a standard column, None for none or several."""
    plain = {_plain(name): name for name in theirs if _plain(name)}
    words = _WORDS.get(ours, "").split()
    for word in words:
        if word in plain:
            return plain[word]
    found = get_close_matches(_plain(ours), plain, n=1, cutoff=_LEAST_ALIKE)
    if found:
        return plain[found[0]]
    ending = [name for name in plain if any(name.endswith(word) for word in words if len(word) > 3)]
    return plain[ending[0]] if len(ending) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
