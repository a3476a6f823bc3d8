"""Celery's settings of an app, for calls that ask for them again and again."""

from __future__ import annotations

from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

from celery.app.utils import Settings as Conf

#: Whether a name with the prefix comes before what was changed under the name alone, as before Celery 5.7.
NAME_FIRST = Conf({"probed": "changed"}, [{"P_PROBED": "configured"}], prefix="P_")["probed"] == "configured"

#: By app: its settings, with the prefix that their names had, and how each name may be spelled.
_spellings: WeakKeyDictionary[Any, tuple[Any, Any, dict[str, tuple[str, ...]]]] = WeakKeyDictionary()


def setting(app: Any, name: str) -> Any:
    """`app.conf[name]` as it is at this moment, in a fifth of the time.

    What takes Celery so long is how a name may be spelled (with a prefix, as in old releases), which is the
    same each time; what it says may be changed by anybody at any time, and is looked up.
    """
    conf = app.conf
    if type(conf) is not Conf:
        # what is not read yet, or somebody's own
        return conf[name]
    known = _spellings.get(app)
    if known is None or known[0] is not conf or known[1] != conf.prefix:
        known = _spellings[app] = conf, conf.prefix, {}
    spelled = known[2].get(name)
    if spelled is None:
        spelled = known[2][name] = tuple(map(conf._key, conf._to_keys(name)))
    maps = conf.maps
    places = [(each, key) for key in spelled for each in maps] if NAME_FIRST else product(maps, spelled)
    for mapping, key in places:
        if type(mapping) is dict:
            if key in mapping:
                return mapping[key]
        else:
            try:
                return mapping[key]
            except KeyError:
                pass
    return conf[name]


def spellings(app: Any, name: str) -> list[str]:
    """All names under which Celery looks for a setting of an app."""
    conf = app.conf
    return list(dict.fromkeys(map(conf._key, conf._to_keys(name))))
