"""Celery's settings of an app, for calls that ask for them again and again."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from celery.app.utils import Settings as Conf

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
    for mapping in conf.maps:
        if type(mapping) is dict:
            for key in spelled:
                if key in mapping:
                    return mapping[key]
        else:
            for key in spelled:
                try:
                    return mapping[key]
                except KeyError:
                    pass
    return conf[name]
