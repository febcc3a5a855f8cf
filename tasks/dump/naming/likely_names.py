"""Suggestions for missing columns."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from artifacts import columns as col
from tasks.dump.readers.table import LIST

_WORDS = {
    col.USER_ID: (
        "user userid uid userpseudoid customer customerid client clientid member memberid "
        "reviewer reviewerid "
        "visitor visitorid buyer buyerid shopper account accountid person personid session "
        "sessionid custid kunde kunden kundennummer profileid deviceid "
        "username anonymousid utilisateur usuario cliente utente 用户id 会员号 kunnr "
        "household householdkey customeremail billingemail emailbilling email"
    ),
    col.ITEM_ID: (
        "item itemid iid product productid sku productsku parentasin asin article articleid goods "
        "goodsid movie movieid book bookid isbn track trackid song songid business "
        "businessid content contentid listing listingid offer offerid artikel artikelnummer upc "
        "ean gtin pid videoid recipeid produkt produktid produit producto articulo 商品id matnr "
        "artistid animeid gameid beerid newsid gmapid 电影id 图书id 音乐id lineitemsku "
        "variantsku stockcode aid id"
    ),
    col.DOMAIN: (
        "category department shop store channel section segment vertical market maincategory "
        "source catalog catalogue division site sparte warengruppe abteilung kategorie categorie "
        "categoria rayon departamento tienda 分类 类目"
    ),
    col.TIMESTAMP: (
        "eventtimestamp timems time date datetime ts unixtime unixreviewtime reviewtime eventtime "
        "createdat created "
        "purchasedate purchasedat orderdate orderedat boughtat when eventdate tdat timestampms day "
        "visitdate datum zeit zeitpunkt rateddate occurredat dateadded fecha 时间 日期 "
        "erdat 评分时间"
    ),
    col.TITLE: (
        "name itemname productname producttitle label itemtitle prodname displayname title titel "
        "bezeichnung nom nombre nome libelle 标题 名称 商品名称 电影名 maktx"
    ),
    col.BRAND: "brandname manufacturer maker vendor publisher author hersteller marke",
    col.PRICE: "itemprice listprice unitprice saleprice priceusd priceeur cost preis prix precio",
    col.CATEGORIES: "category categoryname genre genres tags producttype kategorie warengruppe",
    col.DESCRIPTION: "desc itemdescription productdescription summary beschreibung",
}
_IDS = (col.USER_ID, col.ITEM_ID, col.DOMAIN)
_LEAST_ALIKE = 0.8

_CLEAR_END = 5
"""Minimum length of a nested field's own name for the comparison: every object has an ``id``."""

_NUMBER = re.compile(r"(?<=\w{3})(?:no|nr|num|number|code|key|ref)$")
"""Endings of a name that are ignored in the comparison with known names."""


def likely_column(ours: str, theirs: Iterable[str]) -> str | None:
    """Returns the column of a file that likely is a standard column, None for none or several."""
    theirs = tuple(theirs)
    parents = {name.rpartition(".")[0].removesuffix(LIST) for name in theirs}
    plain = {_plain(name): name for name in theirs if _plain(name) and name not in parents}
    ends = ((_plain(name.rpartition(".")[2]), name) for name in plain.values())
    leaves = {end: name for end, name in ends if len(end) >= _CLEAR_END}
    if _plain(ours) in leaves:
        return leaves[_plain(ours)]
    words = _WORDS.get(ours, "").split()
    of_ids = {_NUMBER.sub("", name): whole for name, whole in plain.items()}
    for known in (plain, leaves, of_ids if ours in _IDS else {}):
        for word in words:
            if word in known:
                return known[word]
    found = get_close_matches(_plain(ours), plain, n=1, cutoff=_LEAST_ALIKE)
    if found:
        return plain[found[0]]
    ending = [name for name in plain if any(name.endswith(word) for word in words if len(word) > 3)]
    return plain[ending[0]] if len(ending) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
